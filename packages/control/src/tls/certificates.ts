import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { TlsConfig } from "../config-tls.ts";
import type { KeyPair } from "./authority.ts";

/**
 * What the server shows: the operator's own certificate, or one of the authority in `dir`, which is made on the first
 * start. Throws `invalid_request` for a certificate that cannot be read.
 */
export async function certificateOf({ own, dir, domain }: TlsConfig): Promise<KeyPair> {
  if (own) return { cert: await read(own.cert, "WRENN_TLS_CERT"), key: await read(own.key, "WRENN_TLS_KEY") };
  const { isGood, issue, newAuthority } = await loadAuthority();
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const authority = await kept(dir, "ca", newAuthority);
  const present = await load(dir, "server");
  if (present && (await isGood(present.cert, authority, domain).catch(() => false))) return present;
  const fresh = await issue(authority, domain);
  await save(dir, "server", fresh);
  return fresh;
}

/** @peculiar/x509 needs the other when it is loaded; a bundle keeps no order between static imports of the two. */
async function loadAuthority(): Promise<typeof import("./authority.ts")> {
  await import("reflect-metadata");
  return await import("./authority.ts");
}

async function kept(dir: string, name: string, make: () => Promise<KeyPair>): Promise<KeyPair> {
  const present = await load(dir, name);
  if (present) return present;
  await save(dir, name, await make());
  return (await load(dir, name))!;
}

async function load(dir: string, name: string): Promise<KeyPair | undefined> {
  try {
    const [cert, key] = await Promise.all(["pem", "key"].map((kind) => readFile(`${dir}/${name}.${kind}`, "utf8")));
    return { cert: cert!, key: key! };
  } catch {
    return undefined; // the first start
  }
}

/** The key first: a certificate that is there has its key. */
async function save(dir: string, name: string, { cert, key }: KeyPair): Promise<void> {
  for (const [kind, text, mode] of [
    ["key", key, 0o600],
    ["pem", cert, 0o644],
  ] as const) {
    const path = `${dir}/${name}.${kind}`;
    await writeFile(`${path}.new`, text, { mode });
    await rename(`${path}.new`, path);
  }
}

async function read(path: string, variable: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new WrennError("invalid_request", `${variable} names ${path}, which cannot be read.`, {
      remedy: "Name a PEM file that the server's user may read.",
      cause,
    });
  }
}
