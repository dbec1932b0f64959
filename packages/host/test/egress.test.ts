import { describe, expect, test } from "bun:test";
import { connect, createServer, type Socket } from "node:net";
import { createServer as createTlsServer, connect as dialTls } from "node:tls";
import fc from "fast-check";
import type { NetPolicy } from "../src/drivers/ports.ts";
import { issue, newAuthority } from "../src/egress/authority.ts";
import { readHead, withHeaders } from "../src/egress/head.ts";
import { Ledger } from "../src/egress/ledger.ts";
import { isForbidden, Judge, needsGate } from "../src/egress/policy.ts";
import { flowsOf } from "../src/egress/seen.ts";
import { plainName, readHello } from "../src/egress/sniff.ts";
import { Vault } from "../src/egress/vault.ts";

const policy = (changes: Partial<NetPolicy> = {}): NetPolicy => ({ internet: false, allow: [], deny: [], ...changes });
const publicIp = "203.0.113.9";

/** The first bytes that a TLS client of this runtime sends for a name. */
async function clientHello(servername: string): Promise<Buffer> {
  const got = Promise.withResolvers<Buffer>();
  const server = createServer((socket) =>
    socket.once("data", (chunk) => got.resolve(Buffer.from(chunk))).on("error", () => {}),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const client = dialTls({ port, host: "127.0.0.1", servername }).on("error", () => {});
  const hello = await got.promise;
  client.destroy();
  server.close();
  return hello;
}

describe("whom a connection is for", () => {
  test("is read from a TLS handshake, whole or byte by byte, cut into records or not", async () => {
    const hello = await clientHello("Api.Example.test");
    expect(readHello(hello)).toEqual({ kind: "tls", name: "api.example.test" });
    for (let length = 1; length < hello.length; length++) expect(readHello(hello.subarray(0, length))).toBeUndefined();
    const message = hello.subarray(5);
    const records = [message.subarray(0, 3), message.subarray(3, 60), message.subarray(60)].map((part) =>
      Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]),
    );
    expect(readHello(Buffer.concat(records))).toEqual({ kind: "tls", name: "api.example.test" });
  });

  test("is read from HTTP's Host, in any case and with a port", () => {
    const read = (text: string) => readHello(Buffer.from(text));
    expect(read("GET / HTTP/1.1\r\nHOST:  Good.Test.:8080\r\nx: y\r\n\r\n")).toEqual({
      kind: "http",
      name: "good.test",
    });
    expect(read("GET / HTTP/1.1\r\nHost: good.test\r\n")).toBeUndefined();
    expect(read("GET / HTTP/1.1\r\nHost: 203.0.113.9\r\n\r\n")).toEqual({ kind: "http", name: undefined });
  });

  for (const [what, text] of Object.entries({
    "two hosts": "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
    "a blank before the colon": "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\nx: y\r\n\r\n",
    "another protocol": "SSH-2.0-OpenSSH\r\n",
    "HTTP/2 without TLS": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  }))
    test(`${what}: nobody's`, () => expect(readHello(Buffer.from(text))).toEqual({ kind: "other" }));

  test("no bytes of a guest make the reader throw or read on for ever", () => {
    const starts = [Buffer.alloc(0), Buffer.from([22, 3, 1]), Buffer.from("GET ")];
    fc.assert(
      fc.property(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 400 }), (start, bytes) => {
        const hello = readHello(Buffer.concat([start, bytes]));
        if (hello && hello.kind !== "other" && hello.name !== undefined) expect(plainName(hello.name)).toBe(hello.name);
      }),
    );
    expect(readHello(Buffer.alloc(70_000, "G"))).toEqual({ kind: "other" });
    expect(readHello(Buffer.concat([Buffer.from("GET / HTTP/1.1\r\n"), Buffer.alloc(70_000, "a")]))).toEqual({
      kind: "other",
    });
  });
});

describe("a policy", () => {
  const decide = (rules: Partial<NetPolicy>, name: string | undefined, ip = publicIp) =>
    new Judge(policy(rules)).decide({ ip, name });

  test("allows names and addresses before it denies", () => {
    expect(decide({}, "a.test")).toBe("denied");
    expect(decide({ allow: ["a.test"] }, "a.test")).toBe("name");
    expect(decide({ allow: ["a.test"] }, "b.a.test")).toBe("denied");
    expect(decide({ allow: ["*.a.test"] }, "b.a.test")).toBe("name");
    expect(decide({ allow: ["*.a.test"] }, "evila.test")).toBe("denied");
    expect(decide({ allow: ["*"] }, "any.test")).toBe("name");
    expect(decide({ allow: ["*"] }, undefined)).toBe("denied");
    expect(decide({ allow: ["203.0.113.0/24"] }, undefined)).toBe("address");
    expect(decide({ internet: true, deny: ["203.0.113.0/24"] }, "a.test")).toBe("denied");
    expect(decide({ internet: true, deny: ["203.0.113.0/24"], allow: [publicIp] }, undefined)).toBe("address");
  });

  test("lifts nothing of the floor, whoever is named", () => {
    for (const ip of ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "not an address"]) {
      expect([ip, isForbidden(ip)]).toEqual([ip, true]);
      expect(decide({ internet: true, allow: ["a.test", "0.0.0.0/0"] }, "a.test", ip)).toBe("denied");
      expect(new Judge(policy({ allow: ["a.test"] })).mayEndAt({ ip, name: "a.test" })).toBe(false);
    }
  });

  test("a rewritten name must still be allowed to end where it leads", () => {
    const judge = new Judge(policy({ internet: true, deny: ["203.0.113.0/24"], rewrites: { "a.test": { x: "1" } } }));
    expect(judge.decide({ ip: "198.51.100.1", name: "a.test" })).toBe("name");
    expect(judge.mayEndAt({ ip: publicIp, name: "a.test" })).toBe(false);
    expect(judge.mayEndAt({ ip: "198.51.100.1", name: "a.test" })).toBe(true);
  });

  test("needs a gate for names and headers only", () => {
    expect(needsGate(policy({ allow: ["203.0.113.0/24", "::/0"], deny: ["198.51.100.1"] }))).toBe(false);
    expect(needsGate(policy({ allow: ["a.test"] }))).toBe(true);
    expect(needsGate(policy({ internet: true, rewrites: { "a.test": {} } }))).toBe(true);
  });
});

/** The head of a request, as a socket brings it in pieces. */
async function headOf(text: string): Promise<Awaited<ReturnType<typeof readHead>>> {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ pauseOnConnect: true }, accepted.resolve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect((server.address() as { port: number }).port, "127.0.0.1");
  client.on("error", () => {}).end(text);
  const socket = await accepted.promise;
  const head = await readHead(socket);
  socket.destroy();
  client.destroy();
  server.close();
  return head;
}

describe("the head of a request", () => {
  test("gets its headers in place of the guest's, and carries one request", async () => {
    const head = await headOf(
      "POST /a?b HTTP/1.1\r\nHost: a.test:443\r\nAUTHORIZATION: mine\r\nConnection: keep-alive, authorization\r\nContent-Length: 3\r\n\r\nabc",
    );
    if (typeof head === "string") throw new Error(head);
    expect(head.host).toBe("a.test");
    expect(withHeaders(head, { authorization: "theirs" }).toString()).toBe(
      "POST /a?b HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 3\r\nauthorization: theirs\r\nConnection: close\r\n\r\n",
    );
  });

  test("of a WebSocket stays one", async () => {
    const head = await headOf("GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    if (typeof head === "string") throw new Error(head);
    expect(withHeaders(head, {}).toString()).toContain("Upgrade: websocket\r\nConnection: Upgrade\r\n");
  });

  for (const [what, text] of Object.entries({
    "a folded line": "GET / HTTP/1.1\r\nHost: a.test\r\n more: x\r\n\r\n",
    "a blank before a colon": "GET / HTTP/1.1\r\nHost: a.test\r\nx : y\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n",
    "a bare line feed in a value": "GET / HTTP/1.1\r\nHost: a.test\r\nx: a\nb: c\r\n\r\n",
    "a NUL in a value": "GET / HTTP/1.1\r\nHost: a.test\r\nx: a\0b\r\n\r\n",
    "another version": "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n",
    "a blank in the target": "GET / x HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "no end": "GET / HTTP/1.1\r\nHost: a.test\r\n",
  }))
    test(`with ${what} is refused`, async () => expect(typeof (await headOf(text))).toBe("string"));
});

test("a sandbox's authority vouches for the name it was asked for and no other, to clients that are strict", async () => {
  const authority = await newAuthority();
  const pair = await issue(authority, "a.test");
  const server = createTlsServer({ ...pair }, (socket) => void socket.end("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const ask = (servername: string, ca: string) =>
    new Promise<string>((resolve) => {
      const client = dialTls({ host: "127.0.0.1", port, servername, ca });
      client
        .once("data", (chunk: Buffer) => resolve(chunk.toString()))
        .once("error", (error: Error) => resolve(error.name));
    });
  expect(await ask("a.test", authority.cert)).toBe("hello");
  expect(await ask("b.test", authority.cert)).toBe("Error");
  expect(await ask("a.test", (await newAuthority()).cert)).toBe("Error");
  server.close();
});

test("what the vault sealed opens with its token alone, and the same value never looks the same", () => {
  const vault = new Vault("a host token of some length");
  const value = { "a.test": { authorization: "Bearer s3cret" } };
  const sealed = vault.seal(value);
  expect(sealed).not.toContain("s3cret");
  expect(vault.seal(value)).not.toBe(sealed);
  expect(vault.open<typeof value>(sealed)).toEqual(value);
  expect(new Vault("another host token, as long").open(sealed)).toBeUndefined();
  expect(vault.open(`${sealed.slice(0, -6)}AAAA==`)).toBeUndefined();
  expect(vault.open("")).toBeUndefined();
});

test("a guest that tries every address fills no memory, and the newest are kept", () => {
  const ledger = new Ledger();
  for (let port = 1; port <= 5_000; port++) ledger.denied({ host: "", ip: publicIp, port });
  for (let i = 0; i < 3; i++) ledger.allowed({ host: "a.test", ip: publicIp, port: 443 });
  const { allowed, denied } = ledger.flows;
  expect(denied.length).toBe(256);
  expect(denied[0]!.port).toBe(5_000);
  expect(allowed).toMatchObject([{ host: "a.test", count: 3, sentBytes: 0 }]);
});

test("flows are told by the names of their protocols, also where the machine has no list of them", () => {
  const elem = (protocol: string | number) => ({
    elem: { val: { concat: [protocol, publicIp, 53] }, expires: 3_000, counter: { packets: 2 } },
  });
  const said = JSON.stringify({ nftables: [{ set: { elem: ["tcp", "udp", 6, 17].map(elem) } }] });
  const flows = flowsOf(said);
  expect(flows.map(({ protocol }) => protocol).sort()).toEqual(["tcp", "tcp", "udp", "udp"]);
  expect(flows[0]).toMatchObject({ host: "", ip: publicIp, port: 53, count: 2 });
});
