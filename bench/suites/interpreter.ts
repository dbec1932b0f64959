import { existsSync } from "node:fs";
import { Sandbox } from "wrenn";
import type { Context, Suite } from "../context.ts";
import { Connection, request } from "../lib/http.ts";
import { timed } from "../measure.ts";
import { installed, World } from "../world.ts";

const template = "code-interpreter";
/** The port of its service (E2B protocol, section 9). */
const servicePort = 49999;
/** A first freeze starts four kernels in a guest that may be emulated. */
const freezeMs = 15 * 60_000;

/** What a first result costs where the kernels were started in the template. */
export const interpreter: Suite = {
  name: "interpreter",
  pledges: [
    {
      ...{ id: "run-code", text: "run_code of 1+1 in a sandbox just created, one machine kept ready", unit: "ms" },
      ...{ better: "lower", against: "a second run_code in it", target: { times: 1.5 } },
    },
    {
      ...{ id: "run-code-no-pool", text: "the same, no pool", unit: "ms", better: "lower" },
      against: "a second run_code in it",
    },
    { id: "run-code-tti", text: "create and first result, one machine kept ready", unit: "ms", better: "lower" },
  ],
  lacks: () =>
    existsSync(`${installed}/images/${template}/image.json`) ? undefined : "make code-interpreter was not run",
  async run(context) {
    await using world = await World.start([template]);
    context.say("the template is frozen once, which takes a minute or two");
    await frozen(world);
    if (context.wants("run-code-no-pool")) {
      const rounds = await measured(context, world);
      const [values, baseline] = [rounds.map(({ first }) => first), rounds.map(({ second }) => second)];
      context.keep("run-code-no-pool", { values, baseline });
    }
    if (!context.wants("run-code", "run-code-tti")) return;
    await world.down();
    await world.up(1);
    const rounds = await measured(context, world, () => world.pooled());
    context.keep("run-code", {
      values: rounds.map(({ first }) => first),
      baseline: rounds.map(({ second }) => second),
    });
    context.keep("run-code-tti", { values: rounds.map(({ create, first }) => create + first) });
  },
};

type Round = { create: number; first: number; second: number };

async function measured(context: Context, world: World, before = async () => {}): Promise<Round[]> {
  const rounds: Round[] = [];
  for (let run = -1; run < context.runs(5); run++) {
    const found = await round(world);
    await before();
    if (run >= 0) rounds.push(found); // the first found the pool empty
  }
  return rounds;
}

/** Waits until the template is frozen: whoever asks before that is told after a while to ask again. */
async function frozen(world: World): Promise<void> {
  for (const end = performance.now() + freezeMs; ; ) {
    const thrown = await round(world).then(
      () => undefined,
      (error) => error,
    );
    if (!thrown) return;
    if (thrown.code !== "unavailable" || performance.now() > end) throw thrown;
    await Bun.sleep(1_000);
  }
}

/** One sandbox: its creation, the first result and the second, milliseconds. */
async function round(world: World): Promise<Round> {
  const started = performance.now();
  await using sandbox = await Sandbox.create({ client: world.client, template, requestTimeoutMs: freezeMs });
  const create = performance.now() - started;
  const first = await timed(() => runCode(world, sandbox));
  return { create, first, second: await timed(() => runCode(world, sandbox)) };
}

/** What the published clients send for `run_code("1+1")`. */
async function runCode(world: World, sandbox: Sandbox): Promise<void> {
  const { baseUrl, apiKey } = await world.client.endpoint();
  using connection = await Connection.open(Number(new URL(baseUrl).port));
  const headers = {
    Host: `${servicePort}-${sandbox.id}.localhost`,
    "X-API-Key": apiKey!,
    "Content-Type": "application/json",
  };
  let text = "";
  const take = (piece: Uint8Array) => {
    text += Buffer.from(piece).toString();
  };
  await connection.send(request("POST /execute", headers, Buffer.from(JSON.stringify({ code: "1+1" }))), take);
  if (!text.includes('"text": "2"')) throw new Error(`the interpreter answered ${text}`);
}
