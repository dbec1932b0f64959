import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import type { Channel } from "../src/processes/frames.ts";
import { Output, unreadBytes } from "../src/processes/output.ts";
import { collect, sh, startAndLeave, until, useAgent } from "./support/agent.ts";
import { envelope, slowReader, streamReader } from "./support/raw.ts";

setDefaultTimeout(30_000); // 64 MiB through a machine that is busy

const agent = useAgent();

const startRequest = "POST /process.Process/Start HTTP/1.1\r\nContent-Type: application/connect+json";
const residentMib = () => process.memoryUsage.rss() / 1024 / 1024;
const alive = async () => (await agent.processes().list({})).processes.length;

/** A file in which every four bytes are their own number, so that any loss or swap shows. */
async function numbered(mib: number): Promise<{ path: string; bytes: Buffer }> {
  const bytes = Buffer.from(Uint32Array.from({ length: (mib * 1024 * 1024) / 4 }, (_, i) => i).buffer);
  const path = `${agent.folder}/numbered`;
  await Bun.write(path, bytes);
  return { path, bytes };
}

test("64 MiB for a reader that takes nothing at first: the process waits, memory stays flat, all bytes come in order", async () => {
  const { path, bytes } = await numbered(64);
  const before = residentMib();
  const socket = await slowReader(agent.url, startRequest, envelope(sh(`cat ${path}`)));
  await until(async () => (await alive()) === 1);
  await Bun.sleep(500);
  expect(await alive()).toBe(1); // 64 MiB fit in no buffer on the way
  expect(residentMib() - before).toBeLessThan(40);

  const hash = new Bun.CryptoHasher("sha256");
  let status = "";
  streamReader(socket, (message) => {
    const { data, end } = message.event ?? {};
    if (data) hash.update(Buffer.from(data.stdout, "base64"));
    if (end) status = end.status;
  });
  await until(() => status !== "");
  expect(status).toBe("exit status 0");
  expect(hash.digest("hex")).toBe(new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));
  socket.destroy();
});

test("a reader that goes away frees the process it held back", async () => {
  const socket = await slowReader(agent.url, startRequest, envelope(sh("head -c 50000000 /dev/zero")));
  await until(async () => (await alive()) === 1);
  await Bun.sleep(200);
  expect(await alive()).toBe(1);
  socket.destroy();
  await until(async () => (await alive()) === 0);
});

test("output that nobody reads does not stop the process; its newest part is kept for who attaches", async () => {
  const { path, bytes } = await numbered(8);
  const client = agent.processes();
  const request = { ...sh(`sleep 0.1; cat ${path}; touch ${agent.folder}/written; sleep 300`), tag: "unread" };
  await startAndLeave(agent, request);
  await until(() => Bun.file(`${agent.folder}/written`).exists());
  const process = { selector: { case: "tag" as const, value: "unread" } };
  const attached: Uint8Array[] = [];
  for await (const { event } of client.connect({ process })) {
    if (event?.event.case !== "data") continue;
    attached.push(event.event.value.output.value!);
    if (Buffer.concat(attached).subarray(-4).equals(bytes.subarray(-4))) break;
  }
  const kept = Buffer.concat(attached);
  expect(kept.equals(bytes.subarray(-kept.length))).toBe(true);
  expect(kept.length).toBeGreaterThanOrEqual(unreadBytes);
  expect(kept.length).toBeLessThan(unreadBytes + 128 * 1024);
  await client.sendSignal({ process, signal: 9 });
});

test("many one-byte writes on two channels stay in order", async () => {
  const outcome = await collect(agent.processes().start(sh("for i in $(seq 500); do echo -n a; echo -n b >&2; done")));
  expect(outcome.stdout).toBe("a".repeat(500));
  expect(outcome.stderr).toBe("b".repeat(500));
});

test("two readers of one process get the same bytes", async () => {
  const client = agent.processes();
  const first = client.start({ ...sh("sleep 0.2; seq 1 20000"), tag: "shared" })[Symbol.asyncIterator]();
  await first.next();
  const process = { selector: { case: "tag" as const, value: "shared" } };
  const [a, b] = await Promise.all([
    collect({ [Symbol.asyncIterator]: () => first }),
    collect(client.connect({ process })),
  ]);
  expect(a.stdout.length).toBe(108_894);
  expect(b.stdout).toBe(a.stdout);
});

test("property: an attached reader gets every byte of each channel in order, however appends and reads interleave", () => {
  const channel = fc.constantFrom<Channel>("stdout", "stderr", "pty");
  const action = fc.oneof(fc.record({ channel, size: fc.nat(150_000) }), fc.constant("read" as const));
  const model = fc.array(action, { maxLength: 60 });
  fc.assert(
    fc.property(model, (actions) => {
      const output = new Output();
      const cursor = output.attach(() => {});
      const wanted: Run[] = [];
      const got: Run[] = [];
      const readAll = () => {
        for (let piece = output.read(cursor); piece; piece = output.read(cursor)) record(got, piece);
      };
      for (const [stamp, step] of actions.entries()) {
        if (step === "read" || output.isBehind) readAll();
        if (step === "read") continue;
        const bytes = Buffer.alloc(step.size, stamp + 1);
        output.append(step.channel, bytes);
        record(wanted, { channel: step.channel, bytes });
      }
      readAll();
      expect(got).toEqual(wanted);
      expect(output.kept).toBeLessThanOrEqual(unreadBytes + 2 * 150_000);
    }),
    { numRuns: 100 },
  );
});

type Run = { channel: Channel; byte: number; length: number };

/** Adds a piece to `runs`, in which neighbours differ in channel or byte value. */
function record(runs: Run[], { channel, bytes }: { channel: Channel; bytes: Uint8Array }): void {
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at]!;
    let end = at;
    while (bytes[end] === byte) end++;
    const last = runs.at(-1);
    if (last && last.channel === channel && last.byte === byte) last.length += end - at;
    else runs.push({ channel, byte, length: end - at });
    at = end;
  }
}
