import { mkdir, mkdtemp, readdir, rename, rm, stat, symlink } from "node:fs/promises";
import { homedir } from "node:os";

/** Where `make images` puts kernels and images. */
export const installed =
  process.env.WRENN_DIR ??
  (process.getuid?.() === 0 ? "/var/lib/wrenn" : `${process.env.XDG_DATA_HOME ?? `${homedir()}/.local/share`}/wrenn`);

/** Images that a test gets unless it says otherwise. A host freezes what it has ahead of time, so others would cost every test. */
export const usualImages = ["minimal", "base"] as const;

/**
 * A data folder for one test: its own sandboxes, snapshots and journal; kernels and images are the installed ones. It
 * lies beside them, so that VMs with user ids of their own reach it and disk layers can share blocks.
 *
 * Frozen templates are hard links to the installed ones. A link to their folder would not do: an empty disk layer names
 * its base by the path it was made under, and that path ends with the test.
 */
export async function dataFolder(name: string, images: readonly string[] = usualImages): Promise<string> {
  await mkdir(`${installed}/tests`, { recursive: true, mode: 0o755 });
  const dir = await mkdtemp(`${installed}/tests/${name}-`);
  await Bun.$`chmod 755 ${dir}`.quiet();
  await symlink(`${installed}/kernels`, `${dir}/kernels`);
  await mkdir(`${dir}/images`, { mode: 0o755 });
  for (const image of images) await symlink(`${installed}/images/${image}`, `${dir}/images/${image}`);
  await mkdir(`${dir}/templates`, { mode: 0o755 });
  await copyTemplates(installed, dir);
  return dir;
}

/** Hands templates that a test has frozen to the installed ones, so that the next test need not boot them. */
export async function keepTemplates(dir: string): Promise<void> {
  await mkdir(`${installed}/templates`, { recursive: true, mode: 0o755 });
  await copyTemplates(dir, installed);
  await forgetOldest();
}

/** Each change of the guest agent makes other templates of 300 MB, and nobody asks for the former ones again. */
const keptTemplates = 12;

async function forgetOldest(): Promise<void> {
  const all = (await readdir(`${installed}/templates`)).map((key) => `${installed}/templates/${key}`);
  const ages = await Promise.all(
    all.map(async (path) => ({ path, at: (await stat(path).catch(() => null))?.mtimeMs })),
  );
  const oldest = ages.toSorted((a, b) => (b.at ?? 0) - (a.at ?? 0)).slice(keptTemplates);
  await Promise.all(oldest.map(({ path }) => rm(path, { recursive: true, force: true })));
}

/** Gives the data folder `to` the frozen templates of `from` that it lacks, as hard links. */
export async function copyTemplates(from: string, to: string): Promise<void> {
  const present = new Set(await readdir(`${to}/templates`));
  for (const key of await readdir(`${from}/templates`).catch(() => [])) {
    if (key.startsWith(".") || present.has(key)) continue;
    // A name of its own first: a folder with the template's name is taken for whole.
    const partial = `${to}/templates/.making-${crypto.randomUUID()}`;
    const { exitCode } = await Bun.$`cp -al ${from}/templates/${key} ${partial}`.quiet().nothrow(); // or it was forgotten
    if (exitCode !== 0) await rm(partial, { recursive: true, force: true });
    else await rename(partial, `${to}/templates/${key}`).catch(() => rm(partial, { recursive: true, force: true }));
  }
}
