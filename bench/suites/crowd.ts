import type { Sandbox } from "wrenn";
import type { Suite } from "../context.ts";
import { proportionalMib } from "../lib/processes.ts";
import { timed } from "../measure.ts";

/** Idle sandboxes of 512 MiB on one machine: half of them again would not fit if each held all it was given. */
const count = 100;

/** Created in groups, as callers come; a machine that is starting counts with all its memory. */
const atOnce = 5;

/** A crowd of sandboxes that do nothing: what each of them costs. */
export const crowd: Suite = {
  name: "crowd",
  pledges: [
    {
      ...{ id: "crowd-memory", text: `proportional memory of one of ${count} idle sandboxes`, unit: "MiB" },
      ...{ better: "lower", target: { absolute: 70 } },
    },
    { id: "crowd-create", text: `one of those creates, ${atOnce} at once`, unit: "ms", better: "lower" },
  ],
  async run(context) {
    const world = await context.world();
    const sandboxes: Sandbox[] = [];
    const creates: number[] = [];
    try {
      for (let i = 0; i < count; i += atOnce) {
        const group = Array.from({ length: atOnce }, async () => {
          creates.push(await timed(async () => void sandboxes.push(await world.create())));
        });
        await Promise.all(group);
        if (sandboxes.length % 20 === 0) context.say(`${sandboxes.length} sandboxes`);
      }
      await Bun.sleep(5_000);
      const memory: number[] = [];
      for (const sandbox of sandboxes) memory.push(proportionalMib((await world.inside(sandbox)).pid));
      const last = sandboxes.at(-1)!;
      if ((await last.commands.run("echo ok")).stdout !== "ok\n") throw new Error("the last of them does not answer");
      context.keep("crowd-memory", { values: memory });
      context.keep("crowd-create", { values: creates });
    } finally {
      for (let i = 0; i < sandboxes.length; i += 10)
        await Promise.all(sandboxes.slice(i, i + 10).map((sandbox) => sandbox.kill()));
    }
  },
};
