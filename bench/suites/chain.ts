import type { Context, Suite } from "../context.ts";
import { OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { Connection, request } from "../lib/http.ts";
import { interleaved, type Side, timed } from "../measure.ts";

const outputBytes = 100_000_000;
const fileMib = 256;
const path = "/var/tmp/chain";

/** Connections that ask at once, and for how long: enough to keep every program on the way busy. */
const load = { connections: 8, ms: 2_000 };

/** A large output and proxied HTTP through the whole chain, against the same without us: QEMU's own port forwarding. */
export const chain: Suite = {
  name: "chain",
  pledges: [
    {
      ...{ id: "stdout-100", text: "100 MB of a command's output, through the whole chain", unit: "MB/s" },
      ...{ better: "higher", against: "the same straight to the guest agent", target: { times: 0.6 } },
    },
    {
      ...{ id: "proxy-rps", text: `requests a second to a port by its host name, ${load.connections} connections` },
      ...{ unit: "/s", better: "higher", against: "QEMU's port forwarding", target: { times: 0.5 } },
    },
    {
      ...{ id: "proxy-256", text: `${fileMib} MiB from a port by its host name`, unit: "MiB/s", better: "higher" },
      ...{ against: "QEMU's port forwarding", target: { times: 0.7 } },
    },
  ],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    const { port, token } = await world.inside(sandbox);
    const { baseUrl, apiKey } = await world.client.endpoint();
    const ways: Ways = {
      direct: { port, headers: { "X-Access-Token": token }, prefix: "" },
      chain: {
        port: Number(new URL(baseUrl).port),
        headers: { "X-API-Key": apiKey! },
        prefix: `/v1/capsules/${sandbox.id}/agent`,
      },
      // The one port of every guest on which something listens. Its agent judges the token itself.
      proxy: {
        port: Number(new URL(baseUrl).port),
        headers: { Host: `49983-${sandbox.id}.localhost`, "X-Access-Token": token },
        prefix: "",
      },
    };
    if (context.wants("stdout-100")) {
      const sides = { chain: () => outputSpeed(ways.chain), direct: () => outputSpeed(ways.direct) };
      const found = await interleaved(sides, { runs: context.runs(3), warmUps: 1 });
      context.keep("stdout-100", { values: found.chain, baseline: found.direct });
    }
    if (context.wants("proxy-rps")) {
      const sides = { proxy: () => rate(ways.proxy), direct: () => rate(ways.direct) };
      const found = await interleaved(sides, { runs: context.runs(4), warmUps: 1 });
      context.keep("proxy-rps", { values: found.proxy, baseline: found.direct });
    }
    if (!context.wants("proxy-256")) return;
    await sandbox.commands.run(`head -c ${fileMib}M /dev/urandom > ${path}; sync`, { user: "root", timeoutMs: 0 });
    await transfer(context, ways);
  },
};

type Way = { port: number; headers: Record<string, string>; prefix: string };
type Ways = Record<"direct" | "chain" | "proxy", Way>;

async function outputSpeed(way: Way): Promise<number> {
  using connection = await Connection.open(way.port);
  const headers = { ...streamHeaders("proto", "root"), ...way.headers };
  const body = startBody("proto", "/usr/bin/head", ["-c", `${outputBytes}`, "/dev/zero"]);
  const output = new OutputCounter("proto");
  const line = `POST ${way.prefix}/process.Process/Start`;
  const ms = await timed(() => connection.send(request(line, headers, body), output.take));
  output.expect(outputBytes);
  return outputBytes / 1e6 / (ms / 1000);
}

/** Requests a second to the agent's `/health`. */
async function rate(way: Way): Promise<number> {
  const ask = request(`GET ${way.prefix}/health`, way.headers);
  const until = performance.now() + load.ms;
  const counts = await Promise.all(
    Array.from({ length: load.connections }, async () => {
      using connection = await Connection.open(way.port);
      let count = 0;
      for (; performance.now() < until; count++) await connection.send(ask);
      return count;
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0) / (load.ms / 1000);
}

async function transfer(context: Context, ways: Ways): Promise<void> {
  const speed =
    (way: Way): Side =>
    async () => {
      using connection = await Connection.open(way.port);
      let bytes = 0;
      const headers = { ...way.headers, "Accept-Encoding": "identity" };
      const ask = request(`GET ${way.prefix}/files?path=${path}&username=root`, headers);
      const count = (piece: Uint8Array) => {
        bytes += piece.byteLength;
      };
      const ms = await timed(() => connection.send(ask, count));
      if (bytes !== fileMib * 2 ** 20) throw new Error(`${bytes} bytes came`);
      return fileMib / (ms / 1000);
    };
  const sides = { proxy: speed(ways.proxy), direct: speed(ways.direct) };
  const found = await interleaved(sides, { runs: context.runs(2), warmUps: 1 });
  context.keep("proxy-256", { values: found.proxy, baseline: found.direct });
}
