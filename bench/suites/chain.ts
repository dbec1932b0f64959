import type { Sandbox } from "wrenn";
import type { Suite } from "../context.ts";
import { OutputCounter, startBody, streamHeaders } from "../lib/connect.ts";
import { Connection, request } from "../lib/http.ts";
import { listeningPorts } from "../lib/processes.ts";
import { interleaved, timed } from "../measure.ts";

const outputBytes = 100_000_000;
const fileMib = 256;
const guestPort = 8080;

/** A guest on a busy machine takes a minute to start an interpreter. */
const patienceSec = 120;

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
    const { port, token, pid } = await world.inside(sandbox);
    const { baseUrl, apiKey } = await world.client.endpoint();
    const server = Number(new URL(baseUrl).port);
    const agent: Ways = {
      direct: { port, headers: { "X-Access-Token": token }, prefix: "" },
      chain: { port: server, headers: { "X-API-Key": apiKey! }, prefix: `/v1/capsules/${sandbox.id}/agent` },
    };
    if (context.wants("stdout-100")) {
      const sides = { chain: () => outputSpeed(agent.chain), direct: () => outputSpeed(agent.direct) };
      const found = await interleaved(sides, { runs: context.runs(2), warmUps: 0 }); // ten seconds each, so few
      context.keep("stdout-100", { values: found.chain, baseline: found.direct });
    }
    if (!context.wants("proxy-rps", "proxy-256")) return;
    const host = `${guestPort}-${sandbox.id}.localhost`;
    const chain: Way = { port: server, headers: { Host: host, "X-API-Key": apiKey! }, prefix: "" };
    const web: Ways = { chain, direct: { port: await serve(sandbox, pid, chain), headers: {}, prefix: "" } };
    if (context.wants("proxy-rps")) {
      const sides = { chain: () => rate(web.chain), direct: () => rate(web.direct) };
      const found = await interleaved(sides, { runs: context.runs(4), warmUps: 1 });
      context.keep("proxy-rps", { values: found.chain, baseline: found.direct });
    }
    if (context.wants("proxy-256")) {
      const sides = { chain: () => transferSpeed(web.chain), direct: () => transferSpeed(web.direct) };
      const found = await interleaved(sides, { runs: context.runs(2), warmUps: 0 });
      context.keep("proxy-256", { values: found.chain, baseline: found.direct });
    }
  },
};

type Way = { port: number; headers: Record<string, string>; prefix: string };
type Ways = Record<"direct" | "chain", Way>;

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

/**
 * A web server in what every image has: keeps connections, answers `/big` with the large transfer and all else with a
 * word. It must cost less than what is measured, also when it is emulated.
 */
const webServer = `
use IO::Socket::INET; use IO::Select;
my $s = IO::Socket::INET->new(LocalPort => ${guestPort}, Listen => 64, ReuseAddr => 1) or die;
my ($all, $piece, %in) = (IO::Select->new($s), "x" x 1048576);
while (1) { for my $c ($all->can_read) {
  if ($c == $s) { $all->add(scalar $s->accept); next }
  $in{$c} //= "";
  if (!sysread($c, $in{$c}, 65536, length $in{$c})) { $all->remove($c); delete $in{$c}; close $c; next }
  while ($in{$c} =~ s/^GET (\\S+).*?\\r\\n\\r\\n//s) {
    if ($1 ne "/big") { syswrite($c, "HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n"); next }
    syswrite($c, "HTTP/1.1 200 OK\\r\\nContent-Length: ${fileMib * 2 ** 20}\\r\\n\\r\\n");
    for (1 .. ${fileMib}) { for (my $at = 0; $at < 1048576;) { $at += syswrite($c, $piece, 1048576 - $at, $at) || last } }
  }
} }`;

/** Starts the web server in the guest; gives the port of this machine at which QEMU forwards to it. */
async function serve(sandbox: Sandbox, pid: number, chain: Way): Promise<number> {
  const before = new Set(listeningPorts(pid));
  await sandbox.files.write("/tmp/web.pl", webServer, { user: "root" });
  await sandbox.commands.run("setsid perl /tmp/web.pl >/dev/null 2>&1 &", { user: "root" });
  const wait = { body: { timeout_sec: patienceSec }, requestTimeoutMs: (patienceSec + 10) * 1_000 };
  await sandbox.client.request("POST", `/v1/capsules/${sandbox.id}/ports/${guestPort}/wait`, wait);
  using connection = await Connection.open(chain.port);
  await connection.send(request("GET /", chain.headers)); // the first request makes QEMU forward the port
  const [port] = listeningPorts(pid).filter((one) => !before.has(one));
  if (port === undefined) throw new Error("QEMU forwards no port to the guest's web server");
  return port;
}

/** Requests a second, on several connections at once. */
async function rate(way: Way): Promise<number> {
  const ask = request("GET /", way.headers);
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

/** MiB a second of one large answer. */
async function transferSpeed(way: Way): Promise<number> {
  using connection = await Connection.open(way.port);
  let bytes = 0;
  const count = (piece: Uint8Array) => {
    bytes += piece.byteLength;
  };
  const ms = await timed(() => connection.send(request("GET /big", way.headers), count));
  if (bytes !== fileMib * 2 ** 20) throw new Error(`${bytes} bytes came`);
  return fileMib / (ms / 1000);
}
