import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The certificates that programs trust, one file: Debian's and Alpine's place, and Fedora's. The first is made if none is there. */
const bundles = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"] as const;

/** Where `update-ca-certificates` looks for more, so that the image's own tools keep the sandbox's. */
const ownFile = "/usr/local/share/ca-certificates/wrenn-sandbox.crt";

const marks = { begin: "# wrenn: certificates of this sandbox", end: "# wrenn: end" } as const;

/**
 * Makes programs of the guest trust the certificates in `pem`, in place of those of the last call: a fork has an egress
 * proxy, and so a certificate authority, of its own. `root` is where the file system starts.
 */
export function trust(pem: string, root = "/"): void {
  writeText(join(root, ownFile), `${pem.trim()}\n`);
  const present = bundles.map((path) => join(root, path)).filter((path) => existsSync(path));
  for (const path of present.length > 0 ? present : [join(root, bundles[0])])
    writeText(path, withSection(present.length > 0 ? readFileSync(path, "utf8") : "", pem.trim()));
}

/** For programs that bring certificates of their own and would not look at the system's. */
export const trustVariables = { NODE_EXTRA_CA_CERTS: ownFile, REQUESTS_CA_BUNDLE: bundles[0] } as const;

/** `bundle` with `pem` between the marks, which stand once. Text outside of certificates is ignored by all readers. */
function withSection(bundle: string, pem: string): string {
  const start = bundle.indexOf(marks.begin);
  const end = bundle.indexOf(marks.end, start);
  const others = start < 0 || end < 0 ? bundle : bundle.slice(0, start) + bundle.slice(end + marks.end.length + 1);
  const separator = others === "" || others.endsWith("\n") ? "" : "\n";
  return `${others}${separator}${marks.begin}\n${pem}\n${marks.end}\n`;
}

function writeText(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
