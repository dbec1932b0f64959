import { open, rm } from "node:fs/promises";
import type { Sandbox } from "wrenn";
import type { Context, Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { changedMib } from "../lib/processes.ts";
import { timed } from "../measure.ts";
import { bareRestoreMs } from "../raw/restore.ts";
import type { World } from "../world.ts";

const mib = 2 ** 20;

/** What is changed in the guest before the larger pause. */
const changed = 64 * mib;

/** What a pause of that much may take, in plain writes and bare restores. */
const allowed = { writes: 1.5, restores: 0.2 };

const against = "one bare restore";
const pledge = (id: string, text: string, times: number): Pledge => ({
  ...{ id, text, unit: "ms", better: "lower", against, target: { times } },
});

/** Pause to a durable snapshot, and back. */
export const pauses: Suite = {
  name: "pauses",
  pledges: [
    pledge("pause-idle", "pause an idle sandbox to a durable snapshot", 0.3),
    {
      ...{ id: "pause-64", text: "the same with 64 MiB changed since the last one", unit: "ms", better: "lower" },
      against: `${allowed.writes} plain writes and syncs of 64 MiB and ${allowed.restores} bare restores`,
      target: { times: 1 },
    },
    {
      ...{ id: "pause-bytes", text: "bytes that it writes, over the guest's changed pages", unit: "×" },
      ...{ better: "lower", target: { absolute: 1.2 } },
    },
    { id: "resume", text: "resume until it is handed out", unit: "ms", better: "lower" },
    pledge("resume-command", "resume until a command's end", 1.2),
  ],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    await sandbox.commands.run("true");
    if (context.wants("pause-idle", "resume", "resume-command")) await idle(context, world, sandbox);
    if (context.wants("pause-64", "pause-bytes")) await busy(context, world, sandbox);
  },
};

async function idle(context: Context, world: World, sandbox: Sandbox): Promise<void> {
  const inside = await world.inside(sandbox);
  const [pause, resume, command, baseline]: number[][] = [[], [], [], []];
  for (let run = -1; run < context.runs(10); run++) {
    const raw = await bareRestoreMs(inside, `${world.dir}/raw`);
    const paused = await timed(() => sandbox.pause());
    const started = performance.now();
    await sandbox.resume();
    const resumed = performance.now() - started;
    await sandbox.commands.run("echo ok", { user: "root" });
    if (run < 0) continue; // warms up
    command!.push(performance.now() - started);
    pause!.push(paused);
    resume!.push(resumed);
    baseline!.push(raw);
  }
  context.keep("pause-idle", { values: pause!, baseline: baseline! });
  context.keep("resume", { values: resume! });
  context.keep("resume-command", { values: command!, baseline: baseline! });
}

async function busy(context: Context, world: World, sandbox: Sandbox): Promise<void> {
  const [times, baseline, ratios]: number[][] = [[], [], []];
  for (let run = 0; run < context.runs(4); run++) {
    await using fresh = await world.create();
    const inside = await world.inside(fresh);
    await fresh.commands.run(`head -c ${changed} /dev/urandom > /dev/shm/changed; sync`, { user: "root" });
    const pages = changedMib(inside.pid, inside.memory) * mib;
    const raw = await bareRestoreMs(await world.inside(sandbox), `${world.dir}/raw`);
    const plain = await timed(() => plainWrite(`${world.dir}/plain`));
    times!.push(await timed(() => fresh.pause()));
    baseline!.push(allowed.writes * plain + allowed.restores * raw);
    ratios!.push(world.writtenBytes(fresh) / pages);
  }
  context.keep("pause-64", { values: times!, baseline: baseline! });
  context.keep("pause-bytes", { values: ratios! });
}

/** The least that keeps so much: written once, in pieces of a MiB, and synced. */
async function plainWrite(path: string): Promise<void> {
  const noise = crypto.getRandomValues(new Uint8Array(65_536));
  const piece = Buffer.concat(Array.from({ length: 16 }, () => noise));
  const file = await open(path, "w");
  for (let at = 0; at < changed; at += piece.length) await file.write(piece, 0, piece.length, at);
  await file.datasync();
  await file.close();
  await rm(path);
}
