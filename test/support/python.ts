import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { repository } from "./system.ts";

/** The published Python package `wrenn` needs this version of Python. */
const wanted = [3, 13] as const;

/** A Python that is new enough: one on the PATH, or one that pyenv has. */
async function find(): Promise<string | undefined> {
  const versions = `${homedir()}/.pyenv/versions`;
  const kept = existsSync(versions) ? await readdir(versions) : [];
  const candidates = [
    ...["python3", ...[13, 14, 15].map((minor) => `python3.${minor}`)].map((name) => Bun.which(name)),
    ...kept.sort().map((name) => `${versions}/${name}/bin/python3`),
  ];
  for (const path of candidates) {
    if (!path || !existsSync(path)) continue;
    const asked = Bun.spawnSync([path, "-c", "import sys; print(*sys.version_info[:2])"]);
    const [major = 0, minor = 0] = asked.stdout.toString().split(" ").map(Number);
    if (major === wanted[0] && minor >= wanted[1]) return path;
  }
  return undefined;
}

/** A Python with packages of the registry in it, made once; or why there is none. */
export async function pythonWith(...packages: string[]): Promise<{ path: string } | { missing: string }> {
  const base = await find();
  if (!base) return { missing: `no Python ${wanted.join(".")} or later on this machine` };
  const dir = `${repository}.cache/python/${packages.join("-").replaceAll("==", "-")}`;
  if (existsSync(dir)) return { path: `${dir}/bin/python` };
  const partial = `${dir}.${process.pid}`;
  await mkdir(`${repository}.cache/python`, { recursive: true });
  const run = (...command: string[]) => Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const made = run(base, "-m", "venv", "--copies", partial);
  if ((await made.exited) !== 0)
    return { missing: `${base} -m venv failed: ${await new Response(made.stderr).text()}` };
  const got = run(`${partial}/bin/python`, "-m", "pip", "install", "--quiet", ...packages);
  if ((await got.exited) === 0) {
    await rename(partial, dir);
    return { path: `${dir}/bin/python` };
  }
  await rm(partial, { recursive: true, force: true });
  return { missing: `pip could not install ${packages.join(" ")}: ${await new Response(got.stderr).text()}` };
}
