import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { parseSandboxId, type rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

/**
 * What hostile clients send to ports of sandboxes: requests that two readers would read differently, connections that
 * never finish a request, visitors that stop reading. The guest is a server that keeps every byte it gets.
 */
const port = 3000;
let plane: Plane;
let guest: RecordingGuest;
let host: string;

beforeAll(async () => {
  plane = await Plane.start();
  guest = await RecordingGuest.start();
  plane.host.apps.set(port, guest.address);
  const { sandboxID } = await plane.json<rest.e2b.Sandbox>(201, "POST", "/sandboxes", { templateID: "minimal" });
  host = `${port}-${sandboxID}.sandboxes.example`;
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await guest.stop();
});

/** A server that answers each request on a connection of its own and keeps what it was sent. */
class RecordingGuest {
  /** Everything that came over each connection. */
  readonly got: string[] = [];
  /** Answers without end. */
  endless = false;
  sentBytes = 0;

  private constructor(readonly server: Server) {}

  static async start(): Promise<RecordingGuest> {
    const server = createServer();
    const guest = new RecordingGuest(server);
    server.on("connection", (socket) => guest.#serve(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return guest;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.server.address() as { port: number }).port}`;
  }

  #serve(socket: Socket): void {
    const at = this.got.push("") - 1;
    let hasAnswered = false;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      this.got[at] += chunk.toString("latin1");
      if (hasAnswered || !this.got[at]!.includes("\r\n\r\n")) return;
      hasAnswered = true;
      if (this.endless) return this.#flood(socket);
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    });
  }

  #flood(socket: Socket): void {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const block = Buffer.alloc(64 * 1024);
    const more = () => {
      while (!socket.destroyed && socket.write(block)) this.sentBytes += block.length;
    };
    socket.on("drain", more);
    more();
  }

  async stop(): Promise<void> {
    this.server.close();
  }
}

/** Sends bytes over one connection and gives what came back until the server closed it or fell silent. */
function send(bytes: string | Buffer, silentMs = 400): Promise<string> {
  return new Promise((resolve) => {
    const { hostname, port: at } = new URL(plane.address);
    const socket = connect(Number(at), hostname);
    let got = "";
    const done = () => {
      socket.destroy();
      resolve(got);
    };
    let timer = setTimeout(done, silentMs * 5);
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
      clearTimeout(timer);
      timer = setTimeout(done, silentMs);
    });
    socket.on("close", () => {
      clearTimeout(timer);
      done();
    });
    socket.on("error", () => {});
    socket.write(bytes);
  });
}

const statuses = (answer: string): number[] =>
  [...answer.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)].map(([, status]) => Number(status));

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n";
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

/** Requests whose end two readers would see in different places, or whose host they would not agree on. */
const corpus: Record<string, (host: string) => string> = {
  "CL.TE": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: ${5 + smuggled.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  "TE.CL": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(smuggled)}0\r\n\r\n`,
  "two lengths": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  "a list of lengths": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: 0, ${smuggled.length}\r\n\r\n${smuggled}`,
  "a length with a sign": (h) => `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: +0\r\n\r\n${smuggled}`,
  "a negative length": (h) => `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: -1\r\n\r\n${smuggled}`,
  "a hexadecimal length": (h) => `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: 0x0\r\n\r\n${smuggled}`,
  "an obscured encoding": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  "an encoding in two lines": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
  "a blank before the colon": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nContent-Length : ${smuggled.length}\r\n\r\n${smuggled}`,
  "a folded line": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
  "a tab before a value": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
  "bare line feeds": (h) => `POST / HTTP/1.1\nHost: ${h}\nContent-Length: 0\n\n${smuggled}`,
  "a bare carriage return": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nx: a\rContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  "a NUL in a header": (h) => `GET / HTTP/1.1\r\nHost: ${h}\r\nx: a\0b\r\n\r\n${smuggled}`,
  "a chunk's size with rubbish": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding: chunked\r\n\r\n0xg\r\n\r\n${smuggled}`,
  "a chunk's size without end": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n${smuggled}`,
  "a chunk longer than it says": (h) =>
    `POST / HTTP/1.1\r\nHost: ${h}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n${smuggled}`,
  "HTTP/1.0 with chunks": (h) =>
    `POST / HTTP/1.0\r\nHost: ${h}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  "a body of a GET": (h) => `GET / HTTP/1.1\r\nHost: ${h}\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  "headers named by Connection": (h) =>
    `GET / HTTP/1.1\r\nHost: ${h}\r\nConnection: close, content-length, x-forwarded-host\r\nContent-Length: 0\r\n\r\n${smuggled}`,
};

describe("a request that could be read in two ways", () => {
  for (const [index, [what, make]] of Object.entries(corpus).entries())
    test(`${what}: the guest gets at most one request of it, and never one for another host`, async () => {
      const before = guest.got.length;
      const own = ` /case-${index} `; // a connection of the case before may come late
      const answer = await send(make(host).replace(" / ", own));
      const isEarlier = (text: string) => / \/case-\d+ /.test(text) && !text.includes(own);
      const got = guest.got.slice(before).filter((text) => text !== "" && !isEarlier(text));
      // What follows is a request of its own to a host that is none of ours, or part of a body: never a request to the guest.
      for (const text of got) {
        expect(text.match(/^[A-Z]+ \/\S* HTTP\/1\.1\r\n/gm)?.length ?? 0).toBeLessThanOrEqual(1);
        expect(text.startsWith("GET /smuggled")).toBe(false);
      }
      expect(got.length).toBeLessThanOrEqual(1);
      expect(statuses(answer).filter((status) => status === 200).length).toBeLessThanOrEqual(1);
    });

  for (const [what, hosts] of Object.entries({
    "two hosts": (h: string) => `Host: ${h}\r\nHost: evil.example`,
    "two hosts, the sandbox's last": (h: string) => `Host: evil.example\r\nHost: ${h}`,
    "a host with a user": (h: string) => `Host: user@${h}`,
    "a host with a path": (h: string) => `Host: ${h}/evil`,
    "a host with a port that is none": (h: string) => `Host: ${h}:port`,
    "no host": () => "x: y",
    "an empty host": () => "Host:",
  }))
    test(`${what} is refused, and the guest hears nothing`, async () => {
      const before = guest.got.length;
      expect(statuses(await send(`GET / HTTP/1.1\r\n${hosts(host)}\r\nConnection: close\r\n\r\n`))).toEqual([400]);
      expect(guest.got.length).toBe(before);
    });
});

describe("host names", () => {
  const id = () => /-([0-9a-z]+)\./.exec(host)![1]!;
  const visit = async (name: string) => {
    const answer = await send(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
    return statuses(answer)[0];
  };

  test("with a malformed label are refused in the words of the dialect, and reach nobody", async () => {
    const before = guest.got.length;
    const zero = "0".repeat(25);
    const cases: Record<string, number> = {
      [`0-${id()}.x`]: 400,
      [`65536-${id()}.x`]: 400,
      [`99999999999999999999-${id()}.x`]: 400,
      [`3000-${zero}.x`]: 502,
      [`3000-${id()}0.x`]: 502,
      [`3000-${id().slice(1)}.x`]: 502,
      "3000-cl-short.x": 400,
      [`49983-cl-${id()}.x`]: 404,
      [`3001-${id()}.x`]: 502,
    };
    for (const [name, status] of Object.entries(cases)) expect([name, await visit(name)]).toEqual([name, status]);
    expect(guest.got.length).toBe(before);
  });

  test("that are no port's at all are the API's", async () => {
    for (const name of [`-${id()}.x`, `a-${id()}.x`, `3000_${id()}.x`, `3000-.x`, `3000--${id()}.x`, "x"])
      expect([name, [404, 400].includes((await visit(name)) ?? 400)]).toEqual([name, true]);
  });

  test("count for more than headers: what a page sends to another sandbox does not lead elsewhere", async () => {
    const { sandboxID } = await plane.json<rest.e2b.Sandbox>(201, "POST", "/sandboxes", { templateID: "minimal" });
    const answer = await send(
      `GET / HTTP/1.1\r\nHost: 3001-${id()}.x\r\nE2b-Sandbox-Id: ${sandboxID}\r\nE2b-Sandbox-Port: ${port}\r\nConnection: close\r\n\r\n`,
    );
    expect(statuses(answer)).toEqual([502]);
    expect(answer).toContain(`"sandboxId":"${id()}"`);
    expect(parseSandboxId(sandboxID)).toBeDefined();
  });
});

describe("slow and deaf clients", () => {
  test("hundreds of connections that never finish a request keep nobody from being served", async () => {
    const { hostname, port: at } = new URL(plane.address);
    const slow = Array.from({ length: 500 }, () => {
      const socket = connect(Number(at), hostname).on("error", () => {});
      socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nx-slow: `);
      return socket;
    });
    const drip = setInterval(() => {
      for (const socket of slow) if (!socket.destroyed) socket.write("a");
    }, 50);
    try {
      for (let i = 0; i < 5; i++)
        expect(statuses(await send(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`))).toEqual([200]);
    } finally {
      clearInterval(drip);
      for (const socket of slow) socket.destroy();
    }
  });

  test("a visitor that stops reading holds its guest's answer back, not in memory", async () => {
    guest.endless = true;
    guest.sentBytes = 0;
    const { hostname, port: at } = new URL(plane.address);
    const deaf = connect(Number(at), hostname).on("error", () => {});
    deaf.pause();
    deaf.write(`GET /endless HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    try {
      let last = -1;
      for (let still = 0; still < 10; ) {
        await Bun.sleep(100);
        still = guest.sentBytes === last && last > 0 ? still + 1 : 0;
        last = guest.sentBytes;
        // Buffers of sockets on the way hold some megabytes; an answer that is read to nowhere has no end.
        expect(last).toBeLessThan(256 * 1024 * 1024);
      }
    } finally {
      guest.endless = false;
      deaf.destroy();
    }
  }, 60_000);
});
