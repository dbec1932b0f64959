/** The hosts of `internet.ts`: name service, HTTP and HTTPS on every address. Run in its name space, with a folder. */
import { world } from "./internet.ts";

const folder = process.argv[2]!;
const names = ["good.test", "other.test", "a.sub.test", "b.a.sub.test", "rebind.test", "secret.test"];

const openssl = (...argv: string[]) => Bun.$`openssl ${argv}`.cwd(folder).quiet();
const fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
const ca = ["-keyout", "ca.key", "-out", "ca.pem", "-addext", "basicConstraints=critical,CA:true"];
await openssl("req", "-x509", ...fresh, "-subj", "/CN=test-internet", ...ca);
await openssl("req", ...fresh.slice(0, -2), "-subj", "/CN=hosts", "-keyout", "hosts.key", "-out", "hosts.csr");
await Bun.write(`${folder}/ext`, `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}\n`);
const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "ext", "-out", "hosts.pem"];
await openssl("x509", "-req", "-days", "2", "-in", "hosts.csr", ...signed);

/** What was asked: who it was for, and every header. */
const echo = (request: Request, server: Bun.Server<undefined>): Response | undefined => {
  const url = new URL(request.url);
  if (request.headers.has("upgrade") && server.upgrade(request)) return undefined;
  if (url.pathname === "/big") return new Response(new Uint8Array(Number(url.searchParams.get("bytes"))));
  if (url.pathname === "/count") return new Response(sizeOf(request));
  return Response.json({ host: url.host, headers: Object.fromEntries(request.headers) });
};

const sizeOf = (request: Request): ReadableStream => {
  let size = 0;
  return new ReadableStream({
    async pull(controller) {
      for await (const chunk of request.body ?? []) size += chunk.length;
      controller.enqueue(Buffer.from(`${size}`));
      controller.close();
    },
  });
};

const websocket = { message: (ws: Bun.ServerWebSocket<undefined>, text: string | Buffer) => void ws.send(text) };
const common = { hostname: "0.0.0.0", fetch: echo, websocket, maxRequestBodySize: 2 ** 32 };
Bun.serve({ ...common, port: 80 });
Bun.serve({
  ...common,
  port: 443,
  tls: { cert: Bun.file(`${folder}/hosts.pem`), key: Bun.file(`${folder}/hosts.key`) },
});
// Speaks first, as mail and database servers do.
Bun.listen({
  hostname: "0.0.0.0",
  port: 25,
  socket: { open: (socket) => void socket.write("220 hello\r\n"), data() {} },
});
await Bun.udpSocket({
  hostname: "0.0.0.0",
  port: 53,
  socket: { data: (socket, query, port, address) => void socket.send(answer(Uint8Array.from(query)), port, address) },
});
await Bun.udpSocket({
  hostname: "0.0.0.0",
  port: 9,
  socket: { data: (socket, message, port, address) => void socket.send(message, port, address) },
});
process.stdout.write("ready\n");

/** RFC 1035, section 4: an A record for every name that is known, none for the rest. */
function answer(query: Uint8Array): Uint8Array {
  const labels: string[] = [];
  let at = 12;
  for (; query[at]; at += 1 + query[at]!)
    labels.push(Buffer.from(query.subarray(at + 1, at + 1 + query[at]!)).toString());
  const name = labels.join(".").toLowerCase();
  const type = (query[at + 1]! << 8) | query[at + 2]!;
  const ip = name === "rebind.test" ? world.private : world.shared;
  const isKnown = names.includes(name);
  const records = isKnown && type === 1 ? [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...ip.split(".").map(Number)] : [];
  const head = [query[0]!, query[1]!, 0x81, isKnown ? 0x80 : 0x83, 0, 1, 0, records.length > 0 ? 1 : 0, 0, 0, 0, 0];
  return Uint8Array.from([...head, ...query.subarray(12, at + 5), ...records]);
}
