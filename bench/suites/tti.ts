import type { Suite } from "../context.ts";
import { interleaved, summary } from "../measure.ts";
import { bareRestore, type Laps } from "../raw/restore.ts";

const line = "echo ok";

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
  ],
  async run(context) {
    const world = await context.world();
    await using like = await world.create(); // freezes the template, makes its empty disk layer, shows QEMU's arguments
    const inside = await world.inside(like);
    const creates: number[] = [];
    const laps: Laps[] = [];
    const whole = async () => {
      const started = performance.now();
      await using sandbox = await world.create();
      const created = performance.now() - started;
      const { stdout } = await sandbox.commands.run(line, { user: "root" });
      const took = performance.now() - started;
      if (stdout !== "ok\n") throw new Error(`the command printed ${JSON.stringify(stdout)}`);
      creates.push(created);
      return took;
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
  },
};
