import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let id: string;
beforeAll(async () => {
  plane = await Plane.start();
  ({ id } = await plane.create());
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

type Frame = {
  type: string;
  pid?: number;
  data?: string;
  exit_code?: number;
  tag?: string;
  code?: string;
  fatal?: boolean;
};

/** A WebSocket client that reads frames one after another. */
class Client {
  readonly #frames: Frame[] = [];
  #closed = false;
  #wake: (() => void) | undefined;
  readonly all: Frame[] = [];

  constructor(readonly ws: WebSocket) {
    ws.onmessage = ({ data }) => {
      const frame = JSON.parse(String(data)) as Frame;
      this.all.push(frame);
      this.#frames.push(frame);
      this.#wake?.();
    };
    ws.onclose = () => {
      this.#closed = true;
      this.#wake?.();
    };
  }

  static async open(path: string, more: Record<string, string> = { [headers.apiKey]: apiKey }): Promise<Client> {
    const ws = new WebSocket(plane.address.replace("http", "ws") + path, { headers: more } as unknown as string[]);
    const client = new Client(ws);
    await new Promise((resolve, reject) => {
      ws.onopen = resolve;
      ws.onerror = reject;
    });
    return client;
  }

  send(frame: rest.StreamClientFrame | object): void {
    this.ws.send(JSON.stringify(frame));
  }

  /** The next frame, `undefined` after the close. */
  async next(): Promise<Frame | undefined> {
    while (this.#frames.length === 0 && !this.#closed)
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    return this.#frames.shift();
  }

  /** The next frame of this type. */
  async until(type: string): Promise<Frame> {
    for (;;) {
      const frame = await this.next();
      if (!frame) throw new Error(`closed before ${type}: ${JSON.stringify(this.all)}`);
      if (frame.type === type) return frame;
    }
  }

  /** Reads to the close and answers every frame since the begin. */
  async rest(): Promise<Frame[]> {
    while (await this.next()) {}
    return this.all;
  }

  /** Terminal output until it contains `text`. */
  async output(text: string): Promise<string> {
    let seen = "";
    while (!seen.includes(text)) seen += Buffer.from((await this.until("output")).data!, "base64").toString();
    return seen;
  }
}

const at = (path: string) => `/v1/capsules/${id}${path}`;
const text = (frames: Frame[], type: string) =>
  frames
    .filter((frame) => frame.type === type)
    .map((frame) => frame.data)
    .join("");

describe("exec/stream", () => {
  test("shows start, both outputs and the exit, then closes", async () => {
    const client = await Client.open(at("/exec/stream"));
    client.send({
      type: "start",
      cmd: "/bin/sh",
      args: ["-c", 'echo "$A" in $(pwd); echo err >&2; exit 4'],
      envs: { A: "x" },
      cwd: "/usr",
    });
    const frames = await client.rest();
    expect(frames[0]).toEqual({ type: "start", pid: expect.any(Number) });
    expect([text(frames, "stdout"), text(frames, "stderr")]).toEqual(["x in /usr\n", "err\n"]);
    expect(frames.at(-1)).toEqual({ type: "exit", exit_code: 4 });
  });

  test("a character cut between two pieces arrives whole", async () => {
    const client = await Client.open(at("/exec/stream"));
    client.send({ type: "start", cmd: "/bin/sh", args: ["-c", "printf '\\342\\202'; sleep 0.05; printf '\\254'"] });
    expect(text(await client.rest(), "stdout")).toBe("€");
  });

  test("stop kills the command", async () => {
    const client = await Client.open(at("/exec/stream"));
    client.send({ type: "start", cmd: "/bin/sleep", args: ["1000"] });
    await client.until("start");
    client.send({ type: "stop" });
    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: -1 });
    expect(await client.next()).toBeUndefined();
  });

  test("8 MiB arrive whole at a client that reads late", async () => {
    const client = await Client.open(at("/exec/stream"));
    client.send({ type: "start", cmd: "/bin/sh", args: ["-c", "head -c 8388608 /dev/zero | tr '\\0' x"] });
    expect(text(await client.rest(), "stdout")).toHaveLength(8_388_608);
  });

  for (const [title, frame, say] of [
    ["a missing program", { type: "start", cmd: "/no/such" }, "not found"],
    ["a start without a command", { type: "start" }, "no cmd"],
    ["a first frame that is not start", { type: "stop" }, "cannot come here"],
    ["a frame of an unknown type", { type: "dance" }, "frame"],
    ["a missing folder", { type: "start", cmd: "/bin/true", cwd: "/no/such" }, "does not exist"],
  ] as const)
    test(`${title} is a fatal error frame and the end`, async () => {
      const client = await Client.open(at("/exec/stream"));
      client.send(frame);
      const frames = await client.rest();
      expect(frames).toEqual([
        { type: "error", data: expect.stringContaining(say), code: expect.any(String), fatal: true },
      ]);
    });
});

describe("processes/{selector}/stream", () => {
  test("shows a running process by tag or pid, and its exit", async () => {
    const body = { cmd: "/bin/sh", args: ["-c", "while :; do echo tick; sleep 0.02; done"], background: true };
    const started = await plane.json<rest.BackgroundResult>(202, "POST", at("/exec"), body);
    for (const selector of [started.tag, String(started.pid)]) {
      const client = await Client.open(at(`/processes/${selector}/stream`));
      expect(await client.until("start")).toEqual({ type: "start", pid: started.pid });
      expect((await client.until("stdout")).data).toContain("tick");
      client.ws.close();
    }
    const client = await Client.open(at(`/processes/${started.tag}/stream`));
    await client.until("start");
    await plane.json(204, "DELETE", at(`/processes/${started.tag}`));
    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  });

  test("an unknown process is an error frame", async () => {
    const client = await Client.open(at("/processes/nosuch/stream"));
    expect(await client.rest()).toEqual([
      { type: "error", data: expect.any(String), code: expect.any(String), fatal: true },
    ]);
  });
});

describe("pty", () => {
  const start = { type: "start", cmd: "/bin/sh", cols: 91, rows: 31, envs: { PS1: "$ " } };

  test("runs a shell in a terminal of the given size, takes input and resizing in order, and exits", async () => {
    const client = await Client.open(at("/pty"));
    client.send(start);
    const started = await client.until("started");
    expect(started).toMatchObject({ tag: expect.stringMatching(/^pty-[0-9a-f]{8}$/), pid: expect.any(Number) });
    const type = (line: string) => client.send({ type: "input", data: Buffer.from(`${line}\n`).toString("base64") });
    type("stty size; echo $TERM");
    expect(await client.output("xterm-256color")).toContain("31 91");
    client.send({ type: "resize", cols: 120, rows: 40 });
    type("stty size");
    await client.output("40 120");
    for (const digit of "1234567890") client.send({ type: "input", data: Buffer.from(digit).toString("base64") });
    type("; echo joined$((1+1))");
    await client.output("joined2");
    type("exit 5");
    expect(await client.until("exit")).toEqual({ type: "exit", exit_code: 5 });
    expect(await client.next()).toBeUndefined();
  });

  test("outlives its socket, is joined again by its tag with a started frame, and dies by kill", async () => {
    const first = await Client.open(at("/pty"));
    first.send(start);
    const { tag, pid } = await first.until("started");
    first.ws.close();
    const second = await Client.open(at("/pty"));
    second.send({ type: "connect", tag });
    expect(await second.until("started")).toEqual({ type: "started", tag: tag!, pid: pid! });
    second.send({ type: "input", data: Buffer.from("echo again$((2+3))\n").toString("base64") });
    await second.output("again5");
    second.send({ type: "kill" });
    expect(await second.until("exit")).toEqual({ type: "exit", exit_code: -1 });
  });

  test("a malformed frame is answered and the terminal lives on; an unknown tag is fatal", async () => {
    const client = await Client.open(at("/pty"));
    client.send(start);
    await client.until("started");
    client.ws.send("{");
    expect((await client.until("error")).fatal).toBeUndefined();
    client.send({ type: "resize", cols: 0, rows: 1 });
    expect((await client.until("error")).fatal).toBeUndefined();
    client.send({ type: "kill" });
    await client.until("exit");
    const lost = await Client.open(at("/pty"));
    lost.send({ type: "connect", tag: "pty-00000000" });
    expect(await lost.until("error")).toMatchObject({ fatal: true });
  });
});

describe("who may look", () => {
  for (const path of ["/exec/stream", "/pty", "/processes/x/stream"]) {
    test(`${path} takes the key in the first frame`, async () => {
      const client = await Client.open(at(path), {});
      client.send({ type: "auth", token: apiKey });
      client.send({ type: "start", cmd: "/bin/true" });
      const frames = await client.rest();
      expect(JSON.stringify(frames)).not.toContain("authentication failed");
    });

    test(`${path} closes on a wrong key, and on a first frame that is none`, async () => {
      for (const frame of [
        { type: "auth", token: "wrn_wrong" },
        { type: "start", cmd: "/bin/true" },
      ]) {
        const client = await Client.open(at(path), {});
        client.send(frame);
        expect(await client.rest()).toEqual([
          { type: "error", data: "authentication failed", code: "unauthorized", fatal: true },
        ]);
      }
    });

    test(`${path} of another team, of a paused sandbox, and of none`, async () => {
      const paused = await plane.create();
      await plane.json(200, "POST", `/v1/capsules/${paused.id}/pause`);
      const other = await Client.open(at(path), { [headers.apiKey]: await plane.otherKey() });
      expect((await other.until("error")).data).toContain("no such sandbox");
      const still = await Client.open(`/v1/capsules/${paused.id}${path}`);
      expect((await still.until("error")).data).toContain("paused");
      const upgrade = {
        upgrade: "websocket",
        connection: "upgrade",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "sec-websocket-version": "13",
      };
      expect(await plane.refusal("GET", `/v1/capsules/nope${path}`, undefined, upgrade)).toEqual({
        status: 400,
        code: "invalid_request",
      });
      expect(await plane.refusal("GET", at(path), undefined, { ...upgrade, [headers.apiKey]: "wrong" })).toEqual({
        status: 401,
        code: "unauthorized",
      });
    });
  }

  test("a client that says nothing is sent away", async () => {
    await using other = await Plane.start({ authMs: 50 });
    const client = new Client(new WebSocket(`${other.address.replace("http", "ws")}${at("/pty")}`));
    expect(await client.rest()).toEqual([
      { type: "error", data: "authentication failed", code: "unauthorized", fatal: true },
    ]);
  });
});

test("a stop of the server closes open terminals at once and leaves their programs running", async () => {
  await using other = await Plane.start();
  const made = await other.create();
  const ws = new WebSocket(`${other.address.replace("http", "ws")}/v1/capsules/${made.id}/pty`, {
    headers: { [headers.apiKey]: apiKey },
  } as unknown as string[]);
  const client = new Client(ws);
  await new Promise((resolve) => {
    ws.onopen = resolve;
  });
  client.send({ type: "start", cmd: "/bin/sh" });
  const { tag } = await client.until("started");
  await other.restart();
  await client.rest();
  const { processes } = await other.json<{ processes: rest.ProcessEntry[] }>(
    200,
    "GET",
    `/v1/capsules/${made.id}/processes`,
  );
  expect(processes.map((process) => process.tag)).toContain(tag!);
});

describe("the published Python client", () => {
  test("reads and writes a terminal's bytes in binary messages", async () => {
    await using own = await Plane.start();
    const { id } = await own.create();
    const shown = { [headers.apiKey]: apiKey, "User-Agent": "python-httpx/0.28.1" };
    const url = `${own.address.replace("http", "ws")}/v1/capsules/${id}/pty`;
    const ws = new WebSocket(url, { headers: shown } as unknown as string[]);
    ws.binaryType = "arraybuffer";
    let output = "";
    const frames: { type: string }[] = [];
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    ws.onopen = () => {
      ws.send(JSON.stringify({ type: "start", cmd: "/bin/sh" }));
      ws.send(JSON.stringify({ type: "pong" }));
      ws.send(new TextEncoder().encode("echo $((6*7)); exit\n"));
    };
    ws.onmessage = ({ data }) => {
      if (typeof data === "string") frames.push(JSON.parse(data));
      else output += new TextDecoder().decode(data as ArrayBuffer);
    };
    ws.onclose = () => resolve();
    await ended;
    expect(output).toContain("42");
    expect(frames.map(({ type }) => type)).toEqual(["started", "exit"]);
  });
});
