import type { Context, Suite } from "../context.ts";
import { interleaved, summary } from "../measure.ts";
import { bareRestore, bareRestoreMs, type Laps } from "../raw/restore.ts";
import type { Inside, World } from "../world.ts";

const line = "echo ok";

/** Sandboxes that are asked for at once. */
const burst = 20;

/** What `commands.run` runs for that line. */
const command = ["/bin/bash", "-l", "-c", line] as const;

/** From nothing to the output of a first command: through the whole system, and by a bare script. */
export const tti: Suite = {
  name: "tti",
  pledges: [
    {
      ...{ id: "tti-no-pool", text: "create a sandbox and get a first command's output, no pool", unit: "ms" },
      ...{ better: "lower", against: "a bare script that restores the same template", target: { times: 1.2 } },
    },
    {
      ...{ id: "tti-create", text: "the same: until the sandbox is handed out", unit: "ms", better: "lower" },
    },
    {
      ...{ id: "tti-pool", text: "create and first command's output, one machine kept ready", unit: "ms" },
      ...{ better: "lower", against: "a bare script that restores the same template", target: { times: 0.25 } },
    },
    {
      ...{ id: "tti-pool-tail", text: "the same: the 95th percentile over the median", unit: "×", better: "lower" },
      target: { absolute: 2 },
    },
    {
      ...{ id: "burst-20", text: `${burst} creates at once, no pool: until the last is handed out`, unit: "ms" },
      ...{ better: "lower", against: "one bare restore", target: { times: 12 } },
    },
  ],
  async run(context) {
    const world = await context.world();
    if (context.wants("tti-no-pool", "tti-create")) await withoutPool(context, world);
    if (context.wants("burst-20")) await inBurst(context, world);
    if (context.wants("tti-pool", "tti-pool-tail")) await withPool(context, world);
  },
};

async function withoutPool(context: Context, world: World): Promise<void> {
  await using like = await world.create(); // freezes the template, shows QEMU's arguments
  const inside = await world.inside(like);
  const creates: number[] = [];
  const laps: Laps[] = [];
  const whole = async () => {
    const { createMs, totalMs } = await firstCommand(world);
    creates.push(createMs);
    return totalMs;
  };
  const raw = async () => {
    const lap = await bareRestore(inside, `${world.dir}/raw`, command);
    laps.push(lap);
    return Object.values(lap).reduce((sum, ms) => sum + ms, 0);
  };
  const warmUps = 2;
  const onRound = (done: number) => done % 10 === 0 && context.say(`${done} rounds`);
  const found = await interleaved({ whole, raw }, { runs: context.runs(30), warmUps, onRound });
  const steps = (["disk", "spawn", "control", "load", "command"] as const).map(
    (name) => `${name} ${summary(laps.slice(warmUps).map((lap) => lap[name])).median.toFixed(0)}`,
  );
  const note = `The bare script's steps, ms: ${steps.join(", ")}.`;
  context.keep("tti-no-pool", { values: found.whole, baseline: found.raw, note });
  context.keep("tti-create", { values: creates.slice(warmUps) });
}

async function withPool(context: Context, world: World): Promise<void> {
  const inside = await likeOne(world);
  await world.down();
  await world.up(1);
  const values: number[] = [];
  const baseline: number[] = [];
  for (let run = -1; run < context.runs(10); run++) {
    const { totalMs } = await firstCommand(world);
    await world.pooled();
    const rawMs = await bareRestoreMs(inside, `${world.dir}/raw`);
    if (run < 0) continue; // the first found the pool empty
    values.push(totalMs);
    baseline.push(rawMs);
  }
  context.keep("tti-pool", { values, baseline });
  const { median, p95 } = summary(values);
  context.keep("tti-pool-tail", { values: [p95 / median] });
  await world.down();
  await world.up();
}

/** A machine's arguments, of a sandbox that is gone again. */
async function likeOne(world: World): Promise<Inside> {
  await using like = await world.create();
  return await world.inside(like);
}

async function inBurst(context: Context, world: World): Promise<void> {
  const inside = await likeOne(world);
  const [values, baseline]: [number[], number[]] = [[], []];
  for (let run = 0; run < context.runs(2); run++) {
    for (let i = 0; i < 3; i++) baseline.push(await bareRestoreMs(inside, `${world.dir}/raw`));
    const started = performance.now();
    const made = await Promise.allSettled(Array.from({ length: burst }, () => world.create()));
    values.push(performance.now() - started);
    const failed = made.find((one) => one.status === "rejected");
    await Promise.all(made.map((one) => (one.status === "fulfilled" ? one.value.kill() : undefined)));
    if (failed) throw failed.reason;
  }
  context.keep("burst-20", { values, baseline });
}

async function firstCommand(world: World): Promise<{ createMs: number; totalMs: number }> {
  const started = performance.now();
  await using sandbox = await world.create();
  const createMs = performance.now() - started;
  const { stdout } = await sandbox.commands.run(line, { user: "root" });
  const totalMs = performance.now() - started;
  if (stdout !== "ok\n") throw new Error(`the command printed ${JSON.stringify(stdout)}`);
  return { createMs, totalMs };
}
