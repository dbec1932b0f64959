import type { Context, Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { changedMib, proportionalMib } from "../lib/processes.ts";
import { timed } from "../measure.ts";
import type { Inside, World } from "../world.ts";

const idleMs = 60_000;

/** Sandboxes that stand idle at once: template pages are shared by all, so one alone would look heavier than each of many. */
const idlers = 3;

const record = (id: string, text: string, unit: string): Pledge => ({ id, text, unit, better: "lower" });

/** Freezing a template, and what a sandbox keeps in memory. */
export const life: Suite = {
  name: "life",
  pledges: [
    record("freeze", "a template's first use: boot, warm-up, freeze, first create", "s"),
    record("idle-memory", `proportional memory of one of ${idlers} idle sandboxes`, "MiB"),
    record("dirty-first-command", "guest memory changed by start and first command", "MiB"),
    {
      ...record("dirty-idle-60s", "guest memory changed after one command and 60 s idle", "MiB"),
      target: { absolute: 8 }, // a bare agent of the same runtime changes 6
    },
  ],
  async run(context) {
    const world = await context.world();
    const isIdle = context.wants("idle-memory", "dirty-first-command", "dirty-idle-60s");
    const idle = isIdle ? await idleSandboxes(context, world) : undefined;
    const since = performance.now();
    if (context.wants("freeze")) await freeze(context, world);
    if (!idle) return;
    context.say("waiting for the idle sandboxes");
    await Bun.sleep(Math.max(0, idleMs - (performance.now() - since)));
    context.keep("idle-memory", { values: idle.map(({ pid }) => proportionalMib(pid)) });
    context.keep("dirty-idle-60s", { values: idle.map(({ pid, memory }) => changedMib(pid, memory)) });
  },
};

/** Sandboxes that have run one command; they stay until the world ends. */
async function idleSandboxes(context: Context, world: World): Promise<Inside[]> {
  const insides: Inside[] = [];
  for (let i = 0; i < idlers; i++) {
    const sandbox = await world.create();
    await sandbox.commands.run("true");
    insides.push(await world.inside(sandbox));
  }
  context.keep("dirty-first-command", { values: insides.map(({ pid, memory }) => changedMib(pid, memory)) });
  return insides;
}

/** Memory sizes that nothing else uses, so that each needs a template of its own; it goes with the bench's folder. */
const unusedMib = 261;

async function freeze(context: Context, world: World): Promise<void> {
  const values: number[] = [];
  for (let run = 0; run < context.runs(1); run++) {
    const ms = await timed(async () => {
      await using _ = await world.create({ memoryMiB: unusedMib + run });
    });
    values.push(ms / 1000);
  }
  context.keep("freeze", { values });
}
