import { closeSync, openSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { writeEmptyLayer } from "../../packages/host/src/drivers/qcow2-layer.ts";
import { Qmp } from "../../packages/host/src/drivers/qemu/qmp.ts";
import { OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { Connection, request } from "../lib/http.ts";
import type { Inside } from "../world.ts";

/** What one bare restore took: milliseconds of each step. */
export type Laps = Record<"disk" | "spawn" | "control" | "load" | "command", number>;

/**
 * The least that any program must do to get a command's output out of a new sandbox: write an empty disk layer, start QEMU
 * with the arguments of `like`, load the state of the template, let it run, ask its agent directly.
 */
export async function bareRestore(like: Inside, dir: string, command: readonly [string, ...string[]]): Promise<Laps> {
  await mkdir(dir, { recursive: true });
  const watch = new StopWatch();
  const frozen = dirname(like.memory);
  const base = `${frozen}/disk.qcow2`;
  writeEmptyLayer(`${dir}/disk.qcow2`, { path: base, format: "qcow2" }, base);
  const disk = watch.lap();
  const state = openSync(`${frozen}/device`, "r");
  const child = Bun.spawn(argumentsLike(like, dir), { stdio: ["ignore", "ignore", "inherit", state], cwd: dir });
  closeSync(state);
  const spawn = watch.lap();
  try {
    await using qmp = await Qmp.connect(`${dir}/qmp.sock`, () => child.exitCode === null);
    const table = await qmp.human("info usernet");
    const port = Number(/TCP\[HOST_FORWARD\]\s+\d+\s+[\d.]+\s+(\d+)/.exec(table)?.[1]);
    const control = watch.lap();
    await load(qmp);
    const loaded = watch.lap();
    await qmp.call("cont");
    await run(port, command);
    return { disk, spawn, control, load: loaded, command: watch.lap() };
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    await rm(dir, { recursive: true, force: true });
  }
}

/** Milliseconds of a whole bare restore, until the end of what `commands.run("echo ok")` runs. */
export async function bareRestoreMs(like: Inside, dir: string): Promise<number> {
  const laps = await bareRestore(like, dir, ["/bin/bash", "-l", "-c", "echo ok"]);
  return Object.values(laps).reduce((sum, ms) => sum + ms, 0);
}

/** Arguments of the running VM, for a folder and a disk layer of its own. */
function argumentsLike({ argv }: Inside, dir: string): string[] {
  return argv.map((arg) =>
    arg
      .replace(/^unix:[^,]*qmp\.sock/, `unix:${dir}/qmp.sock`)
      .replace(/file=[^,]*\.qcow2/, `file=${dir}/disk.qcow2`)
      .replace(/path=[^,]*console\.log/, `path=${dir}/console.log`),
  );
}

async function load(qmp: Qmp): Promise<void> {
  await qmp.call("migrate-incoming", { uri: "fd:3" });
  for (;;) {
    const { status } = await qmp.call<{ status?: string }>("query-migrate");
    if (status === "completed") return;
    if (status === "failed") throw new Error("QEMU did not take the device state");
    await Bun.sleep(1);
  }
}

async function run(port: number, [cmd, ...args]: readonly [string, ...string[]]): Promise<void> {
  using connection = await Connection.open(port);
  const headers = streamHeaders("proto", "root");
  const output = new OutputCounter("proto");
  await connection.send(request("POST /process.Process/Start", headers, startBody("proto", cmd, args)), output.take);
  output.expect("ok\n".length);
}

class StopWatch {
  #since = performance.now();

  /** Milliseconds since the last call. */
  lap(): number {
    const before = this.#since;
    this.#since = performance.now();
    return this.#since - before;
  }
}
