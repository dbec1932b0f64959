import type { Suite } from "../context.ts";
import { residentMib } from "../lib/processes.ts";
import { Server } from "../lib/servers.ts";
import { execsAtOnce } from "./envd-latency.ts";

const limitMib = 45;

/** What the runtime does after its start, such as returning pages of its start-up, is over after this. */
const settleMs = 1500;

const commands = 10_000;
const steps = 5;

/** Resident memory of the guest agent, on this machine. */
export const envdMemory: Suite = {
  name: "envd-memory",
  pledges: [
    {
      ...{ id: "envd-rss-idle", text: "guest agent: resident when idle", unit: "MiB", better: "lower" },
      ...{ against: "best of the compared agents", given: 3.6, target: { absolute: limitMib } },
    },
    {
      ...{
        id: "envd-rss-after-10k",
        text: "guest agent: resident after 10,000 commands",
        unit: "MiB",
        better: "lower",
      },
      target: { absolute: limitMib },
    },
    {
      id: "envd-rss-growth",
      text: "guest agent: resident after 10,000 commands, in ratio to after 2,000",
      ...{ unit: "×", better: "lower", target: { absolute: 1.05 } },
    },
  ],
  async run(context) {
    await using bare = await Server.bare();
    if (context.wants("envd-rss-idle")) {
      const values: number[] = [];
      for (let run = 0; run < context.runs(3); run++) {
        await using agent = await Server.guestAgent();
        await Bun.sleep(settleMs);
        values.push(residentMib(agent.child.pid));
      }
      const reference = { what: "bare Bun.serve, from source", values: [residentMib(bare.child.pid)] };
      context.keep("envd-rss-idle", { values, reference });
    }
    if (!context.wants("envd-rss-after-10k", "envd-rss-growth")) return;
    await using agent = await Server.guestAgent();
    const seen: number[] = [];
    for (let step = 0; step < steps; step++) {
      await execsAtOnce(agent, commands / steps);
      await Bun.sleep(settleMs);
      seen.push(residentMib(agent.child.pid));
      context.say(`after ${((step + 1) * commands) / steps} commands: ${seen.at(-1)!.toFixed(1)} MiB`);
    }
    const note = `after each 2,000: ${seen.map((mib) => mib.toFixed(0)).join(", ")} MiB`;
    context.keep("envd-rss-after-10k", { values: [seen.at(-1)!], note });
    context.keep("envd-rss-growth", { values: [seen.at(-1)! / seen[0]!], note });
  },
};
