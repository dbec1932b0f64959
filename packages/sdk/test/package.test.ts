import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "../build.ts";
import { startServer, type TestServer, testKey } from "./server.ts";

// A build runs the type checker, which takes seconds on a busy machine.
setDefaultTimeout(60_000);

const modules = join(import.meta.dir, "../../../node_modules");

let dir: string;
let server: TestServer;
beforeAll(async () => {
  server = await startServer();
  dir = await mkdtemp(join(tmpdir(), "wrenn-package-"));
  await build(join(dir, "node_modules/wrenn"));
  for (const scope of ["@bufbuild", "@connectrpc"])
    await symlink(join(modules, scope), join(dir, "node_modules", scope));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

async function run(command: string[]) {
  const env = {
    PATH: process.env.PATH ?? "",
    HOME: dir,
    WRENN_BASE_URL: server.url,
    WRENN_API_KEY: testKey,
    GUEST_HOME: server.guest.home,
  };
  const child = Bun.spawn(command, { cwd: dir, env, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

const program = `
const home = process.env.GUEST_HOME;
import { CommandExitError, Sandbox } from "wrenn";
const sandbox = await Sandbox.create({ template: "base" });
const { stdout } = await sandbox.commands.run("cat", { stdin: "through node" });
const stream = new ReadableStream({ start(c) { c.enqueue(new Uint8Array(1_000_000)); c.close(); } });
await sandbox.files.write(home + "/made/by/stream", stream);
await sandbox.files.download(home + "/made/by/stream", "local");
await sandbox.files.upload("local", home + "/again");
const { sizeBytes } = await sandbox.files.stat(home + "/again");
const failed = await sandbox.commands.run("exit 5").catch((error) => error);
const gone = await sandbox.kill();
console.log(JSON.stringify({ stdout, sizeBytes, exit: failed instanceof CommandExitError && failed.exitCode, gone }));
`;

test("the package runs under Node: commands, streams both ways, errors", async () => {
  await writeFile(join(dir, "program.mjs"), program);
  const { code, stdout, stderr } = await run(["node", "program.mjs"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual({ stdout: "through node", sizeBytes: 1_000_000, exit: 5, gone: true });
});

test("its declarations stand without those of Bun, Node or the workspace", async () => {
  await mkdir(join(dir, "types"), { recursive: true });
  const source = `
    import { Sandbox, type SandboxInfo, WrennError } from "wrenn";
    const sandbox = await Sandbox.create({ timeoutMs: 1 });
    const info: SandboxInfo = await sandbox.info();
    const bytes: Uint8Array = await sandbox.files.read(info.id, { format: "bytes" });
    const text: string = await sandbox.files.read("x");
    // @ts-expect-error: a result has no such member
    (await sandbox.commands.run(text)).nothing;
    export const code: string = new WrennError("not_found", "" + bytes).code;
  `;
  await writeFile(join(dir, "types/index.mts"), source);
  const flags = [
    "--noEmit",
    "--strict",
    "--target",
    "esnext",
    "--module",
    "nodenext",
    "--types",
    "",
    "--lib",
    "esnext,dom",
  ];
  const { code, stdout } = await run([join(modules, ".bin/tsc"), ...flags, "types/index.mts"]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
});
