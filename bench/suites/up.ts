import { Sandbox } from "wrenn";
import type { Suite } from "../context.ts";

/** `wrenn up`: everything started, until it says that it is ready. Ends every sandbox, so it runs last. */
export const up: Suite = {
  name: "up",
  pledges: [
    {
      ...{ id: "up-second", text: "`wrenn up` on a folder used before, until ready", unit: "s" },
      ...{ better: "lower", target: { absolute: 10 } },
    },
  ],
  async run(context) {
    const world = await context.world();
    for (const { id } of await Sandbox.list({ client: world.client })) await Sandbox.kill(id, { client: world.client });
    const values: number[] = [];
    for (let run = 0; run < context.runs(5); run++) {
      await world.down();
      values.push((await world.up()) / 1000);
    }
    context.keep("up-second", { values });
  },
};
