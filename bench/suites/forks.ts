import type { Sandbox } from "wrenn";
import type { Context, Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { Connection, request } from "../lib/http.ts";
import { bareRestoreMs } from "../raw/restore.ts";
import type { Inside, World } from "../world.ts";

/** Children of one fork. */
const many = 10;

const pledge = (id: string, text: string, times: number): Pledge => ({
  ...{ id, text, unit: "ms", better: "lower", against: "one bare restore", target: { times } },
});

/** Copies of a running sandbox. */
export const forks: Suite = {
  name: "forks",
  pledges: [
    pledge("fork", "fork a running sandbox, until a command's output in the child", 1.2),
    pledge("fork-stopped", "the longest that the source does not answer meanwhile", 0.1),
    pledge("fork-10", `fork ${many} at once, a child`, 0.6),
  ],
  async run(context) {
    const world = await context.world();
    await using source = await world.create();
    await source.commands.run("true");
    const inside = await world.inside(source);
    if (context.wants("fork", "fork-stopped")) await one(context, world, { source, inside });
    if (context.wants("fork-10")) await ten(context, world, { source, inside });
  },
};

type Origin = { source: Sandbox; inside: Inside };

async function one(context: Context, world: World, { source, inside }: Origin): Promise<void> {
  const [times, stops, baseline]: number[][] = [[], [], []];
  for (let run = -1; run < context.runs(8); run++) {
    const raw = await bareRestoreMs(inside, `${world.dir}/raw`);
    const started = performance.now();
    const [child] = await source.fork();
    const { stdout } = await child!.commands.run("echo ok", { user: "root" });
    const took = performance.now() - started;
    if (stdout !== "ok\n") throw new Error(`the child printed ${JSON.stringify(stdout)}`);
    await child!.kill();
    const stopped = await longestSilence(inside, async () => void (await source.checkpoint()));
    if (run < 0) continue; // warms up
    baseline!.push(raw);
    times!.push(took);
    stops!.push(stopped);
  }
  context.keep("fork", { values: times!, baseline: baseline! });
  const note = "Measured on the checkpoint that a fork begins with, so that the child does not take the processor.";
  context.keep("fork-stopped", { values: stops!, baseline: baseline!, note });
}

async function ten(context: Context, world: World, { source, inside }: Origin): Promise<void> {
  const [times, baseline]: number[][] = [[], []];
  for (let run = 0; run < context.runs(3); run++) {
    for (let i = 0; i < 2; i++) baseline!.push(await bareRestoreMs(inside, `${world.dir}/raw`));
    const started = performance.now();
    const children = await source.fork({ count: many });
    times!.push((performance.now() - started) / many);
    await Promise.all(children.map((child) => child.kill()));
  }
  context.keep("fork-10", { values: times!, baseline: baseline! });
}

/** Asks the agent again and again while `act` runs; gives the longest time between two answers, ms. */
async function longestSilence({ port }: Inside, act: () => Promise<void>): Promise<number> {
  using connection = await Connection.open(port);
  let isOver = false;
  let longest = 0;
  const asking = (async () => {
    for (let last = performance.now(); !isOver; ) {
      await connection.send(request("GET /health"));
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
    }
  })();
  await act();
  isOver = true;
  await asking;
  return longest;
}
