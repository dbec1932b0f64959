/**
 * Shows what a sandbox is, on this machine, with the programs of builds/: a real virtual machine that runs Python,
 * holds files and processes, and is paused and resumed with everything in its memory.
 * Uses the server that runs, else starts one of its own on a free port and stops it again.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readProfile, Sandbox, Wrenn, WrennError } from "wrenn";

const builds = new URL("../builds", import.meta.url).pathname;

const timings: { what: string; ms: number }[] = [];

/** Runs one act, remembers how long it took and shows what it gave. */
async function act<T>(what: string, run: () => Promise<T>, show: (value: T) => string = () => ""): Promise<T> {
  const started = performance.now();
  const value = await run();
  const ms = performance.now() - started;
  timings.push({ what, ms });
  const shown = show(value).trim();
  console.log(
    `${what.padEnd(46)} ${duration(ms).padStart(8)}${shown ? `\n    ${shown.replaceAll("\n", "\n    ")}` : ""}`,
  );
  return value;
}

const duration = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

type Server = AsyncDisposable & { client: Wrenn };

/** The server that the environment names, or that `wrenn up` left word of when it answers and knows that key: another user's may have its port now. */
async function runningServer(): Promise<Server | undefined> {
  const client = new Wrenn({ requestTimeoutMs: 2_000 });
  const isNamed = process.env.WRENN_BASE_URL !== undefined;
  if (!isNamed && !((await readProfile()) && (await client.templates().catch(() => undefined)))) return undefined;
  console.log(`using the server at ${(await client.endpoint()).baseUrl}\n`);
  return { client: new Wrenn(), [Symbol.asyncDispose]: async () => {} };
}

/** A server for this demonstration alone, on the same data folder: it shares images and frozen templates. */
async function ownServer(): Promise<Server> {
  const config = await mkdtemp(join(tmpdir(), "wrenn-demo-")); // the profile of this user stays as it is
  const child = Bun.spawn([`${builds}/wrenn`, "up", "--listen", "127.0.0.1:0", "--json"], {
    env: { ...process.env, XDG_CONFIG_HOME: config },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await child.stdout.getReader().read();
  if (!value) throw new Error("wrenn up did not start; its reasons are above");
  const { url, apiKey } = JSON.parse(new TextDecoder().decode(value)) as { url: string; apiKey: string };
  return {
    client: new Wrenn({ baseUrl: url, apiKey }),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      await rm(config, { recursive: true });
    },
  };
}

const program = `
import os, platform, statistics
numbers = [n * n for n in range(1, 1001)]
print("kernel", platform.release(), "| python", platform.python_version(), "| cpus", os.cpu_count())
print("mean of the first 1000 squares:", statistics.mean(numbers))
`;

/** A process that counts in memory alone: after a resume it can only go on if its memory came back. */
const counter = `
import os, time
n = 0
while True:
    n += 1
    with open("/tmp/count.new", "w") as file:
        file.write(str(n))
    os.replace("/tmp/count.new", "/tmp/count")
    time.sleep(0.05)
`;

async function demonstrate(client: Wrenn): Promise<void> {
  const template = process.argv[2] ?? "base";
  await using sandbox = await act(
    `create from ${template}`,
    () => Sandbox.create({ client, template }),
    ({ id }) => id,
  );
  await act(
    "first command",
    () => sandbox.commands.run("uname -srm"),
    ({ stdout }) => stdout,
  );
  await act("second command", () => sandbox.commands.exec("true"));
  await act("write a file", () => sandbox.files.write("/tmp/program.py", program));
  await act(
    "run it with Python",
    () => sandbox.commands.run("python3 /tmp/program.py"),
    ({ stdout }) => stdout,
  );
  const data = crypto.getRandomValues(new Uint8Array(65_536));
  await act("write and read back 64 KiB", async () => {
    await sandbox.files.write("/tmp/data", data);
    const back = await sandbox.files.read("/tmp/data", { format: "bytes" });
    if (!Buffer.from(data).equals(back)) throw new Error("the file came back different");
  });
  await surviveAPause(sandbox);
}

async function surviveAPause(sandbox: Sandbox): Promise<void> {
  const count = async () => Number(await sandbox.files.read("/tmp/count"));
  const running = { background: true, timeoutMs: 0 } as const;
  const { pid } = await act("start a process in the background", () =>
    sandbox.commands.exec("python3", ["-c", counter], running),
  );
  while (!(await sandbox.files.exists("/tmp/count"))) await Bun.sleep(50);
  const bootId = () => sandbox.files.read("/proc/sys/kernel/random/boot_id");
  const [before, bootBefore] = [await count(), await bootId()];

  await act(
    "pause: memory to disk, machine freed",
    () => sandbox.pause(),
    () => `the process had counted to ${before}`,
  );
  await act("resume", () => sandbox.resume());
  await act("first command after it", () => sandbox.commands.exec("true"));

  const [after, bootAfter] = [await count(), await bootId()];
  const same = (await sandbox.commands.list()).some((one) => one.pid === pid);
  if (!same || after < before || bootAfter !== bootBefore)
    throw new Error(`the pause lost something: process ${pid} there: ${same}, count ${before} then ${after}`);
  console.log(`    same kernel boot, same process ${pid}, and it counts on: ${after}`);
}

function summary(): string {
  const width = Math.max(...timings.map(({ what }) => what.length));
  return timings.map(({ what, ms }) => `  ${what.padEnd(width)}  ${duration(ms).padStart(8)}`).join("\n");
}

try {
  await using server = (await runningServer()) ?? (await ownServer());
  await demonstrate(server.client);
  console.log(`\n${summary()}\n`);
} catch (thrown) {
  console.error(`error: ${(thrown as Error).message}`);
  if (thrown instanceof WrennError && thrown.remedy) console.error(`remedy: ${thrown.remedy}`);
  process.exitCode = 1;
}
