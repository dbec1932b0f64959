import type { Suite } from "../context.ts";
import { residentMib } from "../lib/processes.ts";

/** Programs that have just started still hold what starting needed. */
const settleMs = 10_000;

/** What the servers hold while nothing is asked of them. */
export const servers: Suite = {
  name: "servers",
  pledges: [
    {
      ...{ id: "cp-resident", text: "resident memory of wrenn-cp, idle", unit: "MB", better: "lower" },
      target: { absolute: 120 },
    },
    {
      ...{ id: "agent-resident", text: "resident memory of wrenn-agent, idle", unit: "MB", better: "lower" },
      target: { absolute: 100 },
    },
  ],
  async run(context) {
    const world = await context.world();
    await Bun.sleep(settleMs);
    const megabytes = (pid: number) => (residentMib(pid) * 2 ** 20) / 1e6;
    context.keep("cp-resident", { values: [megabytes(world.pidOf("wrenn-cp"))] });
    context.keep("agent-resident", { values: [megabytes(world.pidOf("wrenn-agent"))] });
  },
};
