/** Builds the npm package: plain ES modules and type declarations with the contract inlined, into builds/sdk. */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { $, Glob } from "bun";
import sdk from "./package.json";

const root = join(import.meta.dir, "../..");

/** What the package needs at run time; the contract is inlined. */
const { "@wrenn/contract": _inlined, ...dependencies } = sdk.dependencies;

const manifest = {
  name: sdk.name,
  version: sdk.version,
  description: "Client of Wrenn: sandboxes for AI agents, virtual machines that start in milliseconds",
  license: sdk.license,
  type: "module",
  sideEffects: false,
  engines: { node: ">=20.4" },
  exports: { ".": { types: "./dist/types/sdk/src/index.d.ts", default: "./dist/index.js" } },
  types: "./dist/types/sdk/src/index.d.ts",
  files: ["dist"],
  dependencies,
};

async function bundle(out: string): Promise<void> {
  const built = await Bun.build({
    entrypoints: [join(import.meta.dir, "src/index.ts")],
    outdir: join(out, "dist"),
    format: "esm",
    target: "browser",
    external: [...Object.keys(dependencies), ...Object.keys(dependencies).map((name) => `${name}/*`), "node:*"],
    minify: { syntax: true },
  });
  if (!built.success) throw new AggregateError(built.logs, "the bundle failed");
}

/** Modules of the contract that no declaration of the SDK mentions, and whose own imports users do not have. */
const unused = /export \* as (rest|hostagent) .*\n/g;

async function declarations(out: string): Promise<void> {
  const types = join(out, "dist/types");
  const project = join(await mkdtemp(join(tmpdir(), "wrenn-sdk-types-")), "tsconfig.json");
  const options = {
    noEmit: false,
    declaration: true,
    emitDeclarationOnly: true,
    stripInternal: true,
    outDir: types,
    rootDir: join(root, "packages"),
    typeRoots: [join(root, "node_modules/@types")],
    paths: { "@wrenn/contract": [join(root, "packages/contract/src/index.ts")] },
  };
  const files = [join(import.meta.dir, "src/index.ts")];
  const extend = join(root, "tsconfig.json");
  await writeFile(project, JSON.stringify({ extends: extend, compilerOptions: options, include: [], files }));
  await $`${join(root, "node_modules/.bin/tsc")} -p ${project}`.quiet();
  await rm(dirname(project), { recursive: true });
  await rm(join(types, "contract/src/rest"), { recursive: true });
  for await (const path of new Glob("**/*.d.ts").scan({ cwd: types, absolute: true })) {
    const contract = relative(dirname(path), join(types, "contract/src/index.js"));
    const text = await readFile(path, "utf8");
    const linked = text
      .replace(unused, "")
      .replaceAll('"@wrenn/contract"', `"${contract.startsWith(".") ? contract : `./${contract}`}"`)
      .replace(/((?:from|import\() ?"\.[^"]*)\.ts"/g, '$1.js"');
    await writeFile(path, linked);
  }
}

/** Builds the package into `out`, replacing what was there. */
export async function build(out: string): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await Promise.all([bundle(out), declarations(out)]);
  await writeFile(join(out, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
  await copyFile(join(root, "LICENSE"), join(out, "LICENSE"));
  await copyFile(join(import.meta.dir, "README.md"), join(out, "README.md"));
}

if (import.meta.main) await build(join(root, "builds/sdk"));
