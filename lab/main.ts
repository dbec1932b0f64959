#!/usr/bin/env bun
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { FirstTry } from "./first-try.ts";
import { type HostOptions, LabHost, missing, notes, type RunOptions, withHost } from "./machine.ts";

const help = `The lab: a Debian host with KVM, device mapper and nftables, emulated by QEMU. Production's drivers run in it for real.

Usage:
  bun lab/main.ts test [FILE…]                      the tests of lab/tests, or those whose name contains FILE
  bun lab/main.ts run [--get DIR] -- COMMAND…       a command in the working tree; exits with its code
  bun lab/main.ts shell                             a terminal in it; ends with the shell

Options:
  --timeout SECONDS   for the command (default 1800)
  --get DIR           afterwards brings what the command left in /lab/out into DIR

Environment:
  FIRECRACKER_BIN, JAILER_BIN   this machine's programs (default /usr/local/bin/firecracker, /usr/local/bin/jailer)
  LAB_FULL=1, LAB_CYCLES=200    every fault at every step; so many creates and kills in a row
  LAB_ROUNDS=5                  how often the bench measures each thing
  WRENN_DIR                     where the guest image and kernel come from

Example:
  make lab ARGS='run -- ls -l /dev/kvm'
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { help: { type: "boolean", short: "h" }, timeout: { type: "string" }, get: { type: "string" } },
});

const [command = "test", ...rest] = positionals;
const timeoutSec = Number(values.timeout ?? 1800);

/**
 * Files that take many minutes or need a machine that does nothing else: with LAB_FULL=1, or by name. The same faults
 * run whole on fake machines every time.
 */
const long = ["agent.test.ts", "faults.test.ts", "full-disk.test.ts", "operator.systemd.test.ts", "qemu.test.ts"];
const isFull = process.env.LAB_FULL === "1";

async function runTests(names: readonly string[]): Promise<number> {
  const files = (await Array.fromAsync(new Bun.Glob("*.test.ts").scan(`${import.meta.dir}/tests`)))
    .filter((file) => (names.length > 0 ? names.some((name) => file.includes(name)) : isFull || !long.includes(file)))
    .map((file) => `./lab/tests/${file}`)
    .sort();
  if (names.length === 0 && !isFull)
    tellSkipped(long, "takes many minutes, or a machine for itself: LAB_FULL=1 runs it");
  if (files.length === 0) throw new Error(`no test file is called ${names.join(" or ")}`);
  const onSystemd = files.filter((file) => file.endsWith(".systemd.test.ts"));
  const others = files.filter((file) => !onSystemd.includes(file));
  // A host for each file: one that is lost costs that file's time only, and starts in seconds.
  let worst = 0;
  for (const file of others) worst = Math.max(worst, await runFiles([file]));
  if (onSystemd.length > 0) worst = Math.max(worst, await runFiles(onSystemd, { words: "lab.systemd" }));
  return worst;
}

/** What does not run, and why, in the words and sums of `bun test`. */
function tellSkipped(files: readonly string[], why: string): void {
  for (const file of files) console.log(`(skip) lab/tests/${file} — ${why}`);
  console.log(`\n ${files.length} skip`);
}

/**
 * These files on one host, and those in which something failed once more on another: nested guests freeze now and then,
 * and a file that fails twice has failed. The second try is printed, never hidden.
 */
async function runFiles(files: readonly string[], options: HostOptions = {}): Promise<number> {
  const first = new FirstTry((text) => process.stdout.write(text));
  const code = await tryFiles(files, options, (bytes) => first.take(bytes));
  first.end();
  if (code === 0 || first.failed.length === 0) return code;
  console.error(`lab: once more on another host: ${first.failed.join(", ")}`);
  return await tryFiles(first.failed, options);
}

function tryFiles(files: readonly string[], options: HostOptions, sink?: RunOptions["sink"]): Promise<number> {
  const argv = ["bun", "test", "--timeout", "180000", ...files];
  const env = { FORCE_COLOR: "0", LAB_FULL: process.env.LAB_FULL ?? "", LAB_CYCLES: process.env.LAB_CYCLES ?? "10" };
  return withHost((host) => host.run(argv, { timeoutSec, env, ...(sink && { sink }) }), options);
}

async function runCommand(argv: readonly string[]): Promise<number> {
  return withHost(async (host) => {
    const code = await host.run(argv, { timeoutSec, env: { LAB_ROUNDS: process.env.LAB_ROUNDS ?? "" } });
    if (values.get) {
      await mkdir(values.get, { recursive: true });
      await host.fetchFiles("/lab/out", values.get);
    }
    return code;
  });
}

/** This terminal becomes one of the host's. */
async function shell(): Promise<number> {
  await using host = await LabHost.start();
  console.error(`lab: up after ${(host.bootMs / 1000).toFixed(1)} s; nothing you change in it stays`);
  const socket = new WebSocket(`${host.address.replace("http", "ws")}/shell`);
  socket.binaryType = "arraybuffer";
  const size = () =>
    socket.send(JSON.stringify({ cols: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 }));
  const closed = Promise.withResolvers<void>();
  socket.onopen = () => {
    process.stdin.setRawMode?.(true);
    process.stdin.on("data", (bytes) => void socket.send(bytes));
    process.stdout.on("resize", size);
    size();
  };
  socket.onmessage = ({ data }) => void process.stdout.write(new Uint8Array(data as ArrayBuffer));
  socket.onclose = () => closed.resolve();
  await closed.promise;
  process.stdin.setRawMode?.(false);
  return 0;
}

async function main(): Promise<number> {
  if (values.help) {
    console.log(help);
    return 0;
  }
  const why = missing();
  if (why) {
    tellSkipped(["*"], why);
    return 0;
  }
  for (const note of notes()) console.log(`lab: ${note}`);
  if (command === "test") return runTests(rest);
  if (command === "run" && rest.length > 0) return runCommand(rest);
  if (command === "shell") return shell();
  console.error(`error: "${positionals.join(" ")}" is no command of the lab\nremedy: bun lab/main.ts --help`);
  return 2;
}

process.exit(
  await main().catch((thrown: Error) => {
    console.error(`lab: ${thrown.message}`);
    return 1;
  }),
);
