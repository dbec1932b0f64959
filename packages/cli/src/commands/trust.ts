import { X509Certificate } from "node:crypto";
import { lookup } from "node:dns/promises";
import { copyFile, readFile } from "node:fs/promises";
import { Command } from "commander";
import { Failure, print, printJson } from "../output.ts";
import { folderPath } from "../up/folder.ts";

/** Where Debian, Ubuntu and their like take further authorities from. */
const systemFolder = "/usr/local/share/ca-certificates";

/** `wrenn trust`. */
export const trustCommand = (): Command =>
  new Command("trust")
    .description("let this machine trust the HTTPS of its own Wrenn: installs the installation's authority")
    .option("--dir <path>", "data folder; default WRENN_DIR, else /var/lib/wrenn or ~/.local/share/wrenn")
    .option("--json", "print {certificate, installed, resolves} and install nothing")
    .addHelpText(
      "after",
      "\nExample:\n  sudo wrenn trust\n  NODE_EXTRA_CA_CERTS=$(wrenn trust --json | jq -r .certificate) node app.js",
    )
    .action(trust);

async function trust({ dir, json }: { dir?: string; json?: boolean }): Promise<void> {
  const certificate = `${folderPath(dir)}/tls/ca.pem`;
  const name = await nameIn(certificate);
  const installed = `${systemFolder}/wrenn-${name}.crt`;
  const resolves = await lookup("any.wrenn.localhost").then(
    () => true,
    () => false,
  );
  if (json) return printJson({ certificate, installed: await same(certificate, installed), resolves });
  if (process.getuid?.() !== 0)
    throw new Failure("only root can add an authority to the system", "Run it again with sudo.");
  await copyFile(certificate, installed).catch((cause) => {
    throw new Failure(
      `${installed} cannot be written: ${cause.message}`,
      `Add ${certificate} by your system's own way.`,
    );
  });
  const { exitCode, stderr } = await Bun.$`update-ca-certificates`.quiet().nothrow();
  if (exitCode !== 0)
    throw new Failure(`update-ca-certificates: ${stderr.toString().trim()}`, "Look at its own output.");
  print(`This machine trusts ${certificate} now.

Programs with lists of their own need to be told:

  export NODE_EXTRA_CA_CERTS=${certificate}                    # Node
  export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt   # Python

Everyone who can read ${certificate.replace(/ca\.pem$/, "ca.key")} can forge certificates for this machine.`);
  if (!resolves)
    print(`
Names below wrenn.localhost do not lead to this machine yet: apt-get install libnss-myhostname`);
}

/** What tells this installation's authority from another's. Throws when there is none. */
async function nameIn(path: string): Promise<string> {
  try {
    return new X509Certificate(await readFile(path)).fingerprint256.replaceAll(":", "").slice(0, 12).toLowerCase();
  } catch {
    throw new Failure(`${path} is no certificate`, "Start `wrenn up` once: it makes one.");
  }
}

async function same(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => readFile(path, "utf8").catch(() => undefined)));
  return a !== undefined && a === b;
}
