import type { Suite } from "../context.ts";
import type { Pledge } from "../ledger.ts";
import { type Encoding, OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { request } from "../lib/http.ts";
import { me, Server } from "../lib/servers.ts";
import { interleaved, timed } from "../measure.ts";

const totalMib = 100;
const counts = [1, 4, 16, 64] as const;

/** Best of the compared agents, MB/s, by number of processes (protobuf was offered by two of the three). */
const best: Record<Encoding, Record<(typeof counts)[number], number>> = {
  json: { 1: 209, 4: 263, 16: 283, 64: 236 },
  proto: { 1: 521, 4: 572, 16: 620, 64: 448 },
};

/** What JSON must reach whatever the number of processes; protobuf must beat the best. */
const jsonTarget = 300;

const pledge = (encoding: Encoding, processes: (typeof counts)[number]): Pledge => {
  const given = best[encoding][processes];
  return {
    id: `envd-stdout-${encoding}-${processes}`,
    text: `guest agent: ${totalMib} MiB of output as ${encoding === "json" ? "JSON" : "protobuf"}, ${processes} at once`,
    ...{ unit: "MB/s", better: "higher", against: "best of the compared agents", given },
    target: { absolute: encoding === "json" ? jsonTarget : given },
  };
};

/** Much output of 1 to 64 processes at once; every byte is counted, and every end event waited for. */
export const envdStdout: Suite = {
  name: "envd-stdout",
  pledges: (["json", "proto"] as const).flatMap((encoding) => counts.map((count) => pledge(encoding, count))),
  async run(context) {
    await using agent = await Server.guestAgent();
    await using bare = await Server.bare();
    for (const encoding of ["json", "proto"] as const)
      for (const count of counts) {
        const id = `envd-stdout-${encoding}-${count}`;
        if (!context.wants(id)) continue;
        const sides = {
          agent: () => throughput(agent, encoding, count, agentRequest(encoding, count)),
          bare: () => throughput(bare, encoding, count, bareRequest(encoding, count)),
        };
        const found = await interleaved(sides, { runs: context.runs(8), warmUps: 1 });
        context.keep(id, { values: found.agent, reference: { what: "bare Bun.serve", values: found.bare } });
      }
  },
};

/** Blocks of 64 KiB, a pipe's capacity, that each of `count` processes writes. */
const blocks = (count: number): number => (totalMib * 16) / count;

const agentRequest = (encoding: Encoding, count: number): Uint8Array =>
  request(
    "POST /process.Process/Start",
    streamHeaders(encoding, me),
    startBody(encoding, "/bin/dd", ["if=/dev/zero", "bs=65536", `count=${blocks(count)}`, "status=none"]),
  );

const bareRequest = (encoding: Encoding, count: number): Uint8Array =>
  request(`GET /stdout?as=${encoding}&kib=${blocks(count) * 64}`);

/** Megabytes a second over `count` connections, one process each. */
async function throughput(server: Server, encoding: Encoding, count: number, head: Uint8Array): Promise<number> {
  const connections = await Promise.all(Array.from({ length: count }, () => server.connect()));
  const isAgent = Buffer.from(head).toString().startsWith("POST");
  try {
    const ms = await timed(() =>
      Promise.all(
        connections.map(async (to) => {
          const output = new OutputCounter(encoding);
          const { bytes } = await to.send(head, output.take);
          if (isAgent) output.expect(blocks(count) * 65_536);
          else if (bytes < blocks(count) * 65_536) throw new Error(`only ${bytes} bytes came`);
        }),
      ),
    );
    return (totalMib * 2 ** 20) / 1e6 / (ms / 1000);
  } finally {
    for (const to of connections) to[Symbol.dispose]();
  }
}
