import type { Context, Suite } from "../context.ts";
import { OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { type Connection, request } from "../lib/http.ts";
import { me, Server } from "../lib/servers.ts";
import { interleaved, timed } from "../measure.ts";

const health = request("GET /health");
const start = request("POST /process.Process/Start", streamHeaders("json", me), startBody("json", "/bin/true"));

/** Enough to keep every core busy; more only adds waiting. */
const atOnce = 16;
const execsInRound = 400;

/** Small requests to the guest agent, on this machine: no emulation hides what the agent itself costs. */
export const envdLatency: Suite = {
  name: "envd-latency",
  pledges: [
    {
      ...{ id: "envd-start", text: "guest agent: process start to first answer", unit: "ms", better: "lower" },
      ...{ against: "best of the compared agents", given: 6.8, target: { absolute: 6.8 } },
    },
    {
      ...{ id: "envd-health", text: "guest agent: `/health`, p50", unit: "ms", better: "lower" },
      ...{ against: "best of the compared agents", given: 0.03, target: { absolute: 0.03 } },
    },
    {
      ...{ id: "envd-exec-p50", text: "guest agent: `/bin/true` to its end event, p50", unit: "ms", better: "lower" },
      ...{ against: "best of the compared agents", given: 2.21, target: { absolute: 1.5 } },
    },
    {
      ...{ id: "envd-execs-per-s", text: "guest agent: commands a second, 16 at once", unit: "/s", better: "higher" },
      ...{ against: "best of the compared agents", given: 805, target: { absolute: 1000 } },
    },
  ],
  async run(context) {
    if (context.wants("envd-start")) await measureStart(context);
    await using agent = await Server.guestAgent();
    await using bare = await Server.bare();
    using toAgent = await agent.connect();
    using toBare = await bare.connect();
    const reference = (values: number[]) => ({ what: "bare Bun.serve", values });

    if (context.wants("envd-health")) {
      const once = (to: Connection) => () => timed(() => to.send(health));
      const sides = { agent: once(toAgent), bare: once(toBare) };
      const found = await interleaved(sides, { runs: context.runs(2000), warmUps: 500 });
      context.keep("envd-health", { values: found.agent, reference: reference(found.bare) });
    }
    if (context.wants("envd-exec-p50")) {
      const bareExec = request("POST /exec");
      const sides = { agent: () => timed(() => exec(toAgent)), bare: () => timed(() => toBare.send(bareExec)) };
      const found = await interleaved(sides, { runs: context.runs(300), warmUps: 50 });
      context.keep("envd-exec-p50", { values: found.agent, reference: reference(found.bare) });
    }
    if (context.wants("envd-execs-per-s")) {
      const bareExec = request("POST /exec");
      const sides = {
        agent: () => rate(agent, (to) => exec(to)),
        bare: () => rate(bare, (to) => to.send(bareExec)),
      };
      const found = await interleaved(sides, { runs: context.runs(30), warmUps: 2 });
      context.keep("envd-execs-per-s", { values: found.agent, reference: reference(found.bare) });
    }
  },
};

/** Runs `/bin/true` and waits for its end event. Throws unless its exit code is 0. */
export async function exec(to: Connection): Promise<void> {
  const output = new OutputCounter("json");
  await to.send(start, output.take);
  output.expect(0);
}

async function rate(server: Server, act: (to: Connection) => Promise<unknown>): Promise<number> {
  return (execsInRound / (await execsAtOnce(server, execsInRound, act))) * 1000;
}

/** Does `act` `count` times over 16 connections; gives the milliseconds that all of it took. */
export async function execsAtOnce(
  server: Server,
  count: number,
  act: (to: Connection) => Promise<unknown> = exec,
): Promise<number> {
  const connections = await Promise.all(Array.from({ length: atOnce }, () => server.connect()));
  let left = count;
  try {
    return await timed(() =>
      Promise.all(
        connections.map(async (to) => {
          while (left-- > 0) await act(to);
        }),
      ),
    );
  } finally {
    for (const to of connections) to[Symbol.dispose]();
  }
}

async function measureStart(context: Context): Promise<void> {
  const once = (start: () => Promise<Server>) => async () => {
    await using server = await start();
    return server.startMs;
  };
  const sides = { agent: once(() => Server.guestAgent()), bare: once(() => Server.bare()) };
  const found = await interleaved(sides, { runs: context.runs(30), warmUps: 2 });
  context.keep("envd-start", {
    values: found.agent,
    reference: { what: "bare Bun.serve, from source", values: found.bare },
  });
}
