import { chmod, mkdir, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { Failure } from "../output.ts";

/** Layout version this program writes (docs/ARCHITECTURE.md, `$WRENN_DIR`). */
const layoutVersion = 1;

/** Whether this process runs as root. */
export const isRoot = (): boolean => process.getuid?.() === 0;

/** The data folder asked for, by flag, environment or default. */
export function folderPath(flag?: string): string {
  const asked = flag || process.env.WRENN_DIR;
  if (asked) return asked.startsWith("/") ? asked : join(process.cwd(), asked);
  if (isRoot()) return "/var/lib/wrenn";
  return join(process.env.XDG_DATA_HOME || join(homedir(), ".local/share"), "wrenn");
}

/** What the programs of one installation share and nobody else may know. */
export type Secrets = { hostToken: string; apiKey: string; encryptionKey: string };

/** Makes the data folder ready for this version, or says why it cannot be. */
export async function prepareFolder(dir: string): Promise<void> {
  try {
    // The database's user must be able to pass through; what stands inside has its own rights.
    await mkdir(dir, { recursive: true, mode: isRoot() ? 0o711 : 0o700 });
    if (isRoot()) await chmod(dir, ((await stat(dir)).mode & 0o777) | 0o111);
    await checkVersion(dir);
    await mkdir(join(dir, "logs"), { recursive: true, mode: 0o700 });
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown;
    throw new Failure(
      `the data folder ${dir} cannot be used: ${(thrown as Error).message}`,
      "Name another with --dir or WRENN_DIR, or give this user the right to write there.",
    );
  }
}

async function checkVersion(dir: string): Promise<void> {
  const found = await readFile(join(dir, "version"), "utf8").catch(() => undefined);
  if (found === undefined) return writeWhole(join(dir, "version"), `${layoutVersion}\n`, 0o644);
  const version = Number(found.trim());
  if (Number.isInteger(version) && version >= 1 && version <= layoutVersion) return;
  throw new Failure(
    `the data folder ${dir} has layout version ${found.trim().slice(0, 20)}, this program knows ${layoutVersion}`,
    "Install a newer Wrenn, or name another folder with --dir. Nothing was changed.",
  );
}

/** The installation's secrets, made on the first start. */
export async function readSecrets(dir: string): Promise<Secrets> {
  const path = join(dir, "secrets.json");
  const text = await readFile(path, "utf8").catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === "ENOENT") return "{}";
    throw thrown;
  });
  const found = parse(text);
  if (found === undefined)
    throw new Failure(
      `${path} is damaged`,
      "Restore it from a backup, or remove it: API keys then change, and second factors have to be set up anew.",
    );
  const secrets = {
    hostToken: found.hostToken ?? random(32),
    apiKey: found.apiKey ?? `wrn_${random(16)}`,
    encryptionKey: found.encryptionKey ?? random(32),
  };
  if (Object.entries(secrets).every(([name, secret]) => found[name as keyof Secrets] === secret)) return secrets;
  await writeWhole(path, `${JSON.stringify(secrets, undefined, 2)}\n`, 0o600);
  return secrets;
}

function parse(text: string): Partial<Secrets> | undefined {
  try {
    return JSON.parse(text) as Partial<Secrets>;
  } catch {
    return undefined;
  }
}

const random = (bytes: number): string => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");

/** Writes a file so that readers see the old text or the new, never half of it. */
export async function writeWhole(path: string, text: string, mode: number): Promise<void> {
  const partial = `${path}.${process.pid}.part`;
  await writeFile(partial, text, { mode });
  await rename(partial, path);
}

/** Names of the images sandboxes can start from; a kernel must stand beside them. */
export async function findImages(dir: string): Promise<{ images: string[]; kernels: string[] }> {
  const images = await readdir(join(dir, "images")).catch(() => []);
  const kernels = await readdir(join(dir, "kernels")).catch(() => []);
  const whole = await Promise.all(
    images.map((name) =>
      stat(join(dir, "images", name, "rootfs.ext4")).then(
        () => true,
        () => false,
      ),
    ),
  );
  return { images: images.filter((_, at) => whole[at]), kernels: kernels.filter((name) => name.startsWith("vmlinux")) };
}
