import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import { rest } from "@wrenn/contract";
import { Sandbox as E2b } from "e2b";
import type { NetworkPolicy, Sandbox } from "wrenn";
import { world } from "../../support/internet.ts";
import { until } from "../../support/processes.ts";
import { nothingLeft, System } from "../../support/system.ts";

/**
 * What sandboxes may reach, tried by programs in one real sandbox with every policy in turn, against the hosts of
 * `internet.ts`. Run by `egress.test.ts`, in the name space that has them around it.
 */
let system: System;
let box: Sandbox;

const authority = await Bun.file(process.env.TEST_CA!).text();

beforeAll(async () => {
  system = await System.start("egress", { NODE_EXTRA_CA_CERTS: process.env.TEST_CA!, WRENN_POOL: "1" });
  box = await system.create();
  await box.files.write("/tmp/ca.pem", authority);
}, 240_000);

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
  const tables = Bun.spawnSync(["nft", "list", "tables"]).stdout.toString();
  expect(tables).not.toContain("wrenn_policy");
});

/** What a line of shell prints, without the newline at its end. */
const sh = async (line: string, sandbox: Sandbox = box) =>
  (await sandbox.commands.run(`${line} || true`, { timeoutMs: 60_000 })).stdout.trimEnd();
/** Whom the floor keeps away gets no answer at all: this long is waited for one, when a moment before others came. */
const floorSec = 4;
const curl = (args: string, sandbox?: Sandbox, limitSec = 15) =>
  sh(`curl -sS -m ${limitSec} -o /tmp/out -w '%{http_code}' --cacert /tmp/ca.pem ${args} 2>/tmp/err`, sandbox);
/** Whether somebody answers there on a port of TCP. */
const reaches = async (ip: string, port = 80, limitSec = 10) =>
  (await sh(`timeout ${limitSec} bash -c 'exec 3<>/dev/tcp/${ip}/${port}' 2>/dev/null && echo yes`)) === "yes";
const set = (policy: NetworkPolicy) => box.setNetwork(policy);

describe("without a policy", () => {
  test("public addresses and names are reached, and no others", async () => {
    expect(await curl("https://good.test/")).toBe("200");
    const below = [world.private, world.metadata, world.own, "127.0.0.1"];
    expect(await Promise.all(below.map((ip) => reaches(ip, 80, floorSec)))).toEqual(below.map(() => false));
    expect(await sh("getent hosts rebind.test")).toContain(world.private); // the name is no secret; the way there is shut
    expect(await curl("http://rebind.test/", box, floorSec)).toBe("000");
  });
});

describe("by address", () => {
  test("nothing: no connection, no name, no datagram", async () => {
    await set({ internet: false });
    expect(await reaches(world.shared)).toBe(false);
    expect(await sh("getent hosts good.test")).toBe("");
    expect(await sh(`echo hi | timeout 2 bash -c 'cat >/dev/udp/${world.shared}/9' && echo sent`)).not.toContain("hi");
    const { denials } = await box.network();
    expect(denials.find(({ ip, port }) => ip === world.shared && port === 80)).toMatchObject({ protocol: "tcp" });
  });

  test("one range, and everything but one", async () => {
    await set({ internet: false, allow: ["203.0.113.64/26"] });
    expect([await reaches(world.elsewhere), await reaches(world.shared)]).toEqual([true, false]);
    await set({ deny: ["203.0.113.64/26"] });
    expect([await reaches(world.elsewhere), await reaches(world.shared)]).toEqual([false, true]);
    await set({ deny: ["203.0.113.0/24"], allow: [world.elsewhere] });
    expect([await reaches(world.elsewhere), await reaches(world.shared)]).toEqual([true, false]);
    const { connections } = await box.network();
    expect(connections.map(({ ip }) => ip)).toContain(world.elsewhere);
  });

  test("allowing everything allows nothing below the floor", async () => {
    await set({ internet: false, allow: ["0.0.0.0/0"] });
    expect(await reaches(world.shared)).toBe(true);
    for (const ip of [world.private, world.metadata, world.own])
      expect([ip, await reaches(ip, 80, floorSec)]).toEqual([ip, false]);
  });

  test("a connection that a new policy forbids ends", async () => {
    await set({});
    const script = `exec 3<>/dev/tcp/${world.shared}/80; echo open >/tmp/state; sleep 5; printf "GET / HTTP/1.0\\r\\nhost: a\\r\\n\\r\\n" >&3; timeout 5 head -c 8 <&3`;
    const talk = sh(`bash -c '${script}'`);
    await until("the connection", async () => (await sh("cat /tmp/state 2>/dev/null")) === "open");
    await set({ internet: false });
    expect(await talk).toBe("");
  });
});

describe("by name", () => {
  test("a name is reached by TLS and by HTTP; another at the same address is not", async () => {
    await set({ internet: false, allow: ["good.test"] });
    expect(await curl("https://good.test/")).toBe("200");
    expect(await curl("http://good.test/")).toBe("200");
    expect(await sh("getent hosts other.test")).toBe("");
    expect(await curl(`--resolve other.test:443:${world.shared} https://other.test/`)).toBe("000");
    expect(await curl(`--resolve other.test:80:${world.shared} http://other.test/`)).toBe("403");
    expect(await sh("cat /tmp/out")).toContain("network policy");
    const { connections, denials } = await box.network();
    expect(connections.find(({ host, port }) => host === "good.test" && port === 443)!.receivedBytes).toBeGreaterThan(
      100,
    );
    expect(denials.find(({ host, port }) => host === "other.test" && port === 443)).toBeDefined();
  });

  test("a name leads where the host finds it, whatever the guest says", async () => {
    await set({ internet: false, allow: ["good.test"] });
    expect(await curl(`--resolve good.test:443:${world.elsewhere} https://good.test/`)).toBe("200");
    const { connections } = await box.network();
    expect(connections.find(({ host, port }) => host === "good.test" && port === 443)!.ip).toBe(world.shared);
    await set({ internet: false, allow: ["rebind.test"] });
    expect(await curl(`--resolve rebind.test:443:${world.shared} https://rebind.test/`)).toBe("000");
  });

  test("every name below one, and not that one itself", async () => {
    await set({ internet: false, allow: ["*.sub.test"] });
    expect(await curl("https://a.sub.test/")).toBe("200");
    expect(await curl("https://b.a.sub.test/")).toBe("200");
    expect(await curl(`--resolve sub.test:80:${world.shared} http://sub.test/`)).toBe("403");
    expect(await curl(`--resolve good.test:80:${world.shared} http://good.test/`)).toBe("403");
  });

  test("what names nobody reaches nobody: plain TCP, a server that speaks first, a bare address", async () => {
    await set({ internet: false, allow: ["good.test"] });
    expect(await sh(`timeout 15 bash -c 'exec 3<>/dev/tcp/${world.shared}/25; head -c 3 <&3'`)).toBe("");
    expect(await curl(`-k https://${world.shared}/`)).toBe("000");
    expect(await curl(`http://${world.shared}/`)).toBe("403");
    await set({ internet: false, allow: ["good.test", world.elsewhere] });
    expect(await sh(`timeout 15 bash -c 'exec 3<>/dev/tcp/${world.elsewhere}/25; head -c 3 <&3'`)).toBe("220");
  });

  test("8 MiB pass each way", async () => {
    await set({ internet: false, allow: ["good.test"] });
    expect(await sh("curl -sS --cacert /tmp/ca.pem 'https://good.test/big?bytes=8388608' | wc -c")).toBe("8388608");
    expect(await sh("head -c 8388608 /dev/zero | curl -sS --cacert /tmp/ca.pem -T - https://good.test/count")).toBe(
      "8388608",
    );
  });

  test("a policy outlives a pause, is a fork's too, and counts again after the host agent was killed", async () => {
    await set({ internet: false, allow: ["good.test"] });
    const check = async (sandbox: Sandbox) => {
      expect(await curl("https://good.test/", sandbox)).toBe("200");
      expect(await curl(`--resolve other.test:80:${world.shared} http://other.test/`, sandbox)).toBe("403");
    };
    const [fork] = await box.fork();
    await check(fork!);
    await fork!.kill();
    await box.pause();
    await box.resume();
    await check(box);
    process.kill(await system.pidOf("wrenn-agent"), "SIGKILL");
    await until("the agent's return", () =>
      box.commands.run("true").then(
        () => true,
        () => false,
      ),
    );
    await check(box);
  });
});

describe("E2B's own client", () => {
  test("allowOut, denyOut and updateNetwork hold", async () => {
    const { url, apiKey } = system.ready;
    const to = { apiKey: `e2b_${apiKey.replace(/^\w+_/, "")}`, apiUrl: url, sandboxUrl: url };
    const sandbox = await E2b.create("base", { ...to, network: { allowOut: ["good.test"], denyOut: ["0.0.0.0/0"] } });
    const code = async (where: string) =>
      (await sandbox.commands.run(`curl -sk -m 15 -o /dev/null -w '%{http_code}' ${where} || true`)).stdout;
    expect(await code("https://good.test/")).toBe("200");
    expect(await code(`--resolve other.test:443:${world.shared} https://other.test/`)).toBe("000");
    await sandbox.updateNetwork({ denyOut: [`${world.shared}/32`] });
    expect(await code(`http://${world.shared}/`)).toBe("000");
    await sandbox.updateNetwork({});
    expect(await code("https://other.test/")).toBe("200");
    await sandbox.kill();
  });
});

test("a port whose server speaks TLS is reached, whatever its certificate", async () => {
  const { url, apiKey } = system.ready;
  const to = { apiKey: `e2b_${apiKey.replace(/^\w+_/, "")}`, apiUrl: url, sandboxUrl: url };
  const sandbox = await E2b.create("base", { ...to, network: { httpsPorts: [8443] } });
  for (const name of ["hosts.pem", "hosts.key"])
    await sandbox.files.write(`/tmp/${name}`, await Bun.file(join(dirname(process.env.TEST_CA!), name)).text());
  const serve =
    "import http.server, ssl; s = http.server.HTTPServer(('', 8443), http.server.SimpleHTTPRequestHandler); c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('/tmp/hosts.pem', '/tmp/hosts.key'); s.socket = c.wrap_socket(s.socket, server_side=True); s.serve_forever()";
  await sandbox.commands.run(`cd /etc && exec python3 -c "${serve}"`, { background: true, timeoutMs: 0 });
  const headers = { "e2b-sandbox-id": sandbox.sandboxId, "e2b-sandbox-port": "8443" };
  const answer = await until("the server", async () => {
    const got = await fetch(`${url}/hostname`, { headers });
    return got.ok && (await got.text());
  });
  expect(answer).toStartWith("wrenn-");
  await sandbox.kill();
});

describe("headers", () => {
  const secret = "s3cr3t-value";
  const headers = { "good.test": { authorization: `Bearer ${rest.secretPlaceholder("key")}`, "x-plain": "yes" } };
  const seen = async () => JSON.parse(await sh("cat /tmp/out")) as { headers: Record<string, string> };

  beforeAll(async () => {
    const made = await system.rest("POST", "/secrets", { name: "key", value: secret });
    expect(made.status).toBe(201);
  });

  test("requests to a host get them, by HTTPS and HTTP, and the guest trusts the way; others do not", async () => {
    await set({ headers });
    // No --cacert: the guest's own list of authorities has the sandbox's.
    expect(await sh("curl -sS -m 15 -o /tmp/out -w '%{http_code}' https://good.test/")).toBe("200");
    expect((await seen()).headers).toMatchObject({
      authorization: `Bearer ${secret}`,
      "x-plain": "yes",
      host: "good.test",
    });
    expect(await curl("-H 'authorization: mine' http://good.test/")).toBe("200");
    expect((await seen()).headers.authorization).toBe(`Bearer ${secret}`);
    expect(await curl("https://other.test/")).toBe("200");
    expect((await seen()).headers.authorization).toBeUndefined();
  });

  test("Python's own client and a body of 4 MiB pass", async () => {
    const script =
      "import urllib.request as r, sys; print(r.urlopen(r.Request('https://good.test/count', data=bytes(1<<22))).read().decode())";
    expect(await sh(`python3 -c "${script}"`)).toBe(`${2 ** 22}`);
  });

  test("the secret is nowhere in the guest, the journal or a log", async () => {
    const found = await sh(
      `grep -rlF ${secret.slice(0, 4)}"${secret.slice(4)}" /etc /home /root /run /tmp /usr/local /var --exclude=out 2>/dev/null`,
    );
    expect(found).toBe("");
    expect(await sh("env")).not.toContain(secret);
    for (const name of ["wrenn-agent", "wrenn-cp"] as const) expect(await system.log(name)).not.toContain(secret);
    const journal = await Promise.all(
      ["agent.db", "agent.db-wal"].map((name) =>
        Bun.file(`${system.dir}/${name}`)
          .text()
          .catch(() => ""),
      ),
    );
    expect(journal.join("")).not.toContain(secret);
  });

  test("a new value of a secret counts from the next request on", async () => {
    await system.rest("POST", "/secrets/key", { value: "another-value" });
    await until("the new value", async () => {
      await curl("http://good.test/");
      return (await seen()).headers.authorization === "Bearer another-value";
    });
  });

  test("a request that could be read in two ways gets no secret, and a broken one is refused", async () => {
    const raw = (head: string) =>
      sh(`printf '${head}' | timeout 10 bash -c 'exec 3<>/dev/tcp/${world.shared}/80; cat >&3; cat <&3'`);
    const two = "GET / HTTP/1.1\\r\\nHost: good.test\\r\\nHost: other.test\\r\\nConnection: close\\r\\n\\r\\n";
    expect(await raw(two)).not.toContain("another-value");
    expect(await raw("GET / HTTP/1.1\\r\\nHost: good.test\\r\\n Folded: x\\r\\n\\r\\n")).toContain("400");
  });

  test("a WebSocket passes", async () => {
    await box.files.write("/tmp/ws.py", webSocket);
    expect(await sh("python3 /tmp/ws.py")).toBe("hello");
  });
});

/** Opens a WebSocket, says hello (RFC 6455, a masked text frame) and prints what comes back. */
const webSocket = `
import socket, ssl
raw = ssl.create_default_context().wrap_socket(socket.create_connection(("good.test", 443)), server_hostname="good.test")
head = "GET / HTTP/1.1\\r\\nHost: good.test\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
raw.sendall((head + "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n").encode())
answer = b""
while b"\\r\\n\\r\\n" not in answer: answer += raw.recv(1)
assert b" 101 " in answer, answer
raw.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
print(raw.recv(7)[2:].decode())
`;
