import type { Suite } from "../context.ts";
import { OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { interleaved, type Side, summary, timed } from "../measure.ts";

const program = "/bin/true";

/** What control, host and client may add to a command, ms. */
const allowedMs = 3;

/** A warm command's round trip, and where its time goes: one side for each way that skips one more program. */
export const rtt: Suite = {
  name: "rtt",
  pledges: [
    {
      ...{ id: "command-rtt", text: "a warm command's round trip, client to guest and back", unit: "ms" },
      ...{ better: "lower", against: "the same request straight to the guest agent", target: { plus: allowedMs } },
    },
    {
      ...{ id: "hops-health", text: "the guest's `/health` through control and host", unit: "ms", better: "lower" },
      against: "the same request straight to the guest agent",
    },
  ],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    const { port, token } = await world.inside(sandbox);
    const host = world.host();
    const { baseUrl, apiKey } = await world.client.endpoint();
    const id = sandbox.id.replace(/^cl-/, "");
    const ways = {
      direct: { url: `http://127.0.0.1:${port}`, headers: { "X-Access-Token": token } },
      host: { url: `${host.address}/proxy/${id}/49983`, headers: { "X-Wrenn-Host-Token": host.token } },
      control: { url: `${baseUrl}/v1/capsules/${sandbox.id}/agent`, headers: { "X-API-Key": apiKey! } },
    };
    const note = (found: Record<string, number[]>) =>
      `Medians by way, ms: ${Object.entries(found)
        .map(([name, values]) => `${name} ${summary(values).median.toFixed(2)}`)
        .join(", ")}.`;

    if (context.wants("command-rtt")) {
      const sdk: Side = () => timed(() => sandbox.commands.exec(program, [], { user: "root" }));
      const sides = { ...sidesOf(ways, execute), sdk };
      const found = await interleaved(sides, { runs: context.runs(150), warmUps: 15 });
      context.keep("command-rtt", { values: found.sdk, baseline: found.direct, note: note(found) });
    }
    if (context.wants("hops-health")) {
      const found = await interleaved(sidesOf(ways, health), { runs: context.runs(300), warmUps: 30 });
      context.keep("hops-health", { values: found.control, baseline: found.direct, note: note(found) });
    }
  },
};

type Way = { url: string; headers: Record<string, string> };

function sidesOf<Name extends string>(
  ways: Record<Name, Way>,
  act: (way: Way) => Promise<unknown>,
): Record<Name, Side> {
  const sides = Object.entries<Way>(ways).map(([name, way]) => [name, () => timed(() => act(way))]);
  return Object.fromEntries(sides) as Record<Name, Side>;
}

async function execute({ url, headers }: Way): Promise<void> {
  const answer = await fetch(`${url}/process.Process/Start`, {
    method: "POST",
    headers: { ...streamHeaders("proto", "root"), ...headers },
    body: startBody("proto", program) as Uint8Array<ArrayBuffer>,
  });
  const output = new OutputCounter("proto");
  for await (const bytes of answer.body ?? []) output.take(bytes);
  output.expect(0);
}

async function health({ url, headers }: Way): Promise<void> {
  const answer = await fetch(`${url}/health`, { headers });
  await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`${url}/health answered ${answer.status}`);
}
