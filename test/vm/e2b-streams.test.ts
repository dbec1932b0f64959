import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type CommandHandle, Sandbox } from "e2b";
import { statusOf, until } from "../support/processes.ts";
import { nothingLeft, System } from "../support/system.ts";

/** Streams of every kind over the published SDK: how many there may be, and how they end when their sandbox does. */

let system: System;
let box: Sandbox;
const isFull = process.env.WRENN_SCALE === "1";

beforeAll(async () => {
  system = await System.start("e2b-streams");
  process.env.E2B_API_KEY = system.ready.apiKey.replace(/^wrn_/, "e2b_");
  process.env.E2B_API_URL = system.ready.url;
  process.env.E2B_SANDBOX_URL = system.ready.url;
  box = await Sandbox.create("base", { timeoutMs: 3_600_000 });
});
afterAll(async () => {
  for (const name of ["E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL"]) delete process.env[name];
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Resident memory of the two servers that a byte passes, MiB. */
async function resident(): Promise<number> {
  const pids = await Promise.all([system.pidOf("wrenn-cp"), system.pidOf("wrenn-agent")]);
  return pids.reduce((sum, pid) => sum + statusOf(pid, "VmRSS")[0]! / 1024, 0);
}
/** What buffers, compiled code and garbage may add to both servers, however much was done. */
const slackMib = 96;

const failure = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (thrown) => thrown as Error,
  );

describe("many", () => {
  const commands = isFull ? 1_000 : 100;

  test(`${commands} commands over one object, ten at a time, lose nothing and leave nothing`, async () => {
    await box.commands.run("true");
    const before = await resident();
    let next = 0;
    const worker = async () => {
      for (let i = next++; i < commands; i = next++)
        expect((await box.commands.run(`echo ${i}`)).stdout).toBe(`${i}\n`);
    };
    await Promise.all(Array.from({ length: 10 }, worker));
    expect(await box.commands.list()).toEqual([]);
    expect((await resident()) - before).toBeLessThan(slackMib);
  }, 1_800_000);

  test("200 streams of one process at once hear every line and its end", async () => {
    const reader = await box.commands.run("cat", { background: true, stdin: true, timeoutMs: 0 });
    const streams: CommandHandle[] = [];
    for (let at = 0; at < 200; at += 50)
      streams.push(...(await Promise.all(Array.from({ length: 50 }, () => box.commands.connect(reader.pid)))));
    for (const line of ["one\n", "two\n"]) await reader.sendStdin(line);
    await reader.closeStdin();
    const heard = await Promise.all(streams.map(async (stream) => (await stream.wait()).stdout));
    expect(heard).toEqual(Array(200).fill("one\ntwo\n"));
  }, 240_000);

  test("a large file goes up and down at constant memory", async () => {
    const [pieces, piece] = [isFull ? 1_024 : 64, new Uint8Array(2 ** 20).fill(7)];
    let sent = 0;
    const data = new ReadableStream<Uint8Array>({
      pull: (controller) => (sent++ < pieces ? controller.enqueue(piece) : controller.close()),
    });
    const before = await resident();
    await box.files.write("/var/tmp/large", data, { requestTimeoutMs: 1_200_000 });
    let got = 0;
    const wish = { format: "stream", requestTimeoutMs: 1_200_000 } as const;
    for await (const bytes of await box.files.read("/var/tmp/large", wish)) got += bytes.length;
    expect(got).toBe(pieces * piece.length);
    expect((await resident()) - before).toBeLessThan(slackMib);
    await box.files.remove("/var/tmp/large");
  }, 2_400_000);

  test("a hundred requests that find a sandbox asleep wake it once", async () => {
    const sleepy = await Sandbox.create("minimal", {
      ...{ timeoutMs: 120_000, lifecycle: { onTimeout: "pause", autoResume: true } },
    });
    await sleepy.pause();
    const woken = await Promise.all(Array.from({ length: 100 }, () => sleepy.isRunning()));
    expect(woken).toEqual(Array(100).fill(true));
    const path = `/v1/events?kind=capsule.resume&resource=cl-${sleepy.sandboxId}`;
    expect(await (await system.rest("GET", path)).json()).toHaveLength(1);
    await sleepy.kill();
  }, 120_000);
});

/** Streams of each kind that are under way; each settles with the error it ends with, or `undefined` for a clean end. */
async function everyStream(sandbox: Sandbox): Promise<Record<string, Promise<Error | undefined>>> {
  const sleeper = await sandbox.commands.run("sleep 600", { background: true, timeoutMs: 0 });
  const second = await sandbox.commands.connect(sleeper.pid, { timeoutMs: 0 });
  const terminal = await sandbox.pty.create({ cols: 80, rows: 24, onData: () => {}, timeoutMs: 0 });
  const watch = Promise.withResolvers<Error | undefined>();
  await sandbox.files.watchDir("/var/tmp", () => {}, { timeoutMs: 0, onExit: (thrown) => watch.resolve(thrown) });
  const { ended: port } = await openPort(sandbox);
  await sandbox.commands.run("truncate -s 512M /var/tmp/endless");
  const download = (
    await sandbox.files.read("/var/tmp/endless", { format: "stream", requestTimeoutMs: 0 })
  ).getReader();
  await download.read();
  return {
    start: failure(sleeper.wait()),
    connect: failure(second.wait()),
    terminal: failure(terminal.wait()),
    watch: watch.promise,
    upload: failure(upload(sandbox)),
    download: failure(
      (async () => {
        await Bun.sleep(500);
        while (!(await download.read()).done);
      })(),
    ),
    port,
  };
}

/** A file that is never sent to its end. */
function upload(sandbox: Sandbox): Promise<unknown> {
  const endless = new ReadableStream<Uint8Array>({
    async pull(controller) {
      controller.enqueue(new Uint8Array(1_024));
      await Bun.sleep(100);
    },
  });
  return sandbox.files.write("/var/tmp/never", endless, { requestTimeoutMs: 0 });
}

/** An answer of a server in the guest that never ends; `ended` settles when it does. */
async function openPort(sandbox: Sandbox): Promise<{ ended: Promise<Error | undefined> }> {
  const answer = "HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nConnection: close\\r\\n\\r\\nbegun\\n";
  const serve = `{ printf '${answer}'; sleep 600; } | socat -t 600 TCP-LISTEN:8123,reuseaddr,fork -`;
  await sandbox.commands.run(`exec sh -c "${serve.replaceAll('"', '\\"')}"`, { background: true, timeoutMs: 0 });
  const visit = () => fetch(system.ready.url, { headers: { host: sandbox.getHost(8123) } });
  const got = await until("the server", async () => {
    const one = await visit();
    return one.status === 200 ? one : undefined;
  });
  return { ended: failure(got.text()) };
}

describe("every stream ends, soon and by itself,", () => {
  for (const [how, end] of [
    ["is killed", (sandbox: Sandbox) => sandbox.kill()],
    ["is paused", (sandbox: Sandbox) => sandbox.pause()],
    ["is paused without its memory", (sandbox: Sandbox) => sandbox.pause({ keepMemory: false })],
  ] as const)
    test(`when its sandbox ${how}; what comes afterwards works or says why not`, async () => {
      const sandbox = await Sandbox.create("minimal", { timeoutMs: 600_000 });
      const streams = await everyStream(sandbox);
      await end(sandbox);
      for (const [name, ended] of Object.entries(streams)) {
        const outcome = await Promise.race([ended, Bun.sleep(60_000).then(() => "still open")]);
        expect([name, outcome]).toEqual([name, expect.any(Error)]);
      }
      if (how === "is killed") return expect(await failure(sandbox.commands.run("true"))).toBeInstanceOf(Error);
      await sandbox.connect();
      expect((await sandbox.commands.run("echo back")).stdout).toBe("back\n");
      await sandbox.kill();
    }, 240_000);

  test("when the guest's agent is killed; it comes back with its token", async () => {
    const sandbox = await Sandbox.create("minimal");
    const command = await sandbox.commands.run("sleep 600", { background: true, timeoutMs: 0 });
    const ended = failure(command.wait());
    void sandbox.commands.run("pkill -9 -x envd || kill -9 $(pidof envd)", { user: "root" }).catch(() => {});
    expect(await ended).toBeInstanceOf(Error);
    const answer = await until("the agent", () => sandbox.commands.run("echo back").catch(() => undefined));
    expect(answer.stdout).toBe("back\n");
    await sandbox.kill();
  }, 120_000);
});
