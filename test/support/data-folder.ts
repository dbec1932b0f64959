import { mkdir, mkdtemp, symlink } from "node:fs/promises";
import { homedir } from "node:os";

/** Where `make images` puts kernels and images. */
export const installed =
  process.env.WRENN_DIR ??
  (process.getuid?.() === 0 ? "/var/lib/wrenn" : `${process.env.XDG_DATA_HOME ?? `${homedir()}/.local/share`}/wrenn`);

/**
 * A data folder for one test: its own sandboxes, snapshots and journal; kernels, images and frozen templates are the
 * installed ones, so that a test does not boot what another has frozen. Lies beside them, so that VMs with user ids of
 * their own reach it and disk layers can share blocks.
 */
export async function dataFolder(name: string): Promise<string> {
  await mkdir(`${installed}/tests`, { recursive: true, mode: 0o755 });
  const dir = await mkdtemp(`${installed}/tests/${name}-`);
  await Bun.$`chmod 755 ${dir}`.quiet();
  await mkdir(`${installed}/templates`, { recursive: true });
  for (const shared of ["kernels", "images", "templates"]) await symlink(`${installed}/${shared}`, `${dir}/${shared}`);
  return dir;
}
