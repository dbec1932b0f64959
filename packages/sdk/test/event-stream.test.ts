import { expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { processes } from "@wrenn/contract";
import fc from "fast-check";
import { envelope, joined, processEvents } from "../src/event-stream.ts";

const bytes = fc.uint8Array({ maxLength: 300 }).map((value) => new Uint8Array(value));

const event: fc.Arbitrary<NonNullable<MessageInitShape<typeof processes.ProcessEventSchema>["event"]>> = fc.oneof(
  fc.nat().map((pid) => ({ case: "start" as const, value: { pid } })),
  fc
    .tuple(fc.constantFrom("stdout", "stderr", "pty"), bytes)
    .map(([stream, value]) => ({ case: "data" as const, value: { output: { case: stream, value } } })),
  fc.constant({ case: "keepalive" as const, value: {} }),
  fc
    .tuple(fc.integer({ min: -1, max: 255 }), fc.string())
    .map(([exitCode, status]) => ({ case: "end" as const, value: { exitCode, status, exited: exitCode >= 0 } })),
);

const endOfStream = (json: string) => {
  const text = new TextEncoder().encode(json);
  const header = new Uint8Array([2, 0, 0, 0, text.byteLength]);
  return joined([header, text]);
};

/** A body that arrives in pieces of the given sizes, taken in turn. */
function body(whole: Uint8Array, sizes: readonly number[]): ReadableStream<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < whole.byteLength; turn++) {
    const size = sizes[turn % sizes.length]!;
    pieces.push(whole.slice(at, at + size));
    at += size;
  }
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

test("events arrive as they were sent, however the network cuts them", async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 12 }), sizes, async (events, cuts) => {
      const sent = events.map((one) => create(processes.StartResponseSchema, { event: { event: one! } }));
      const framed = sent.map((one) => envelope(processes.StartResponseSchema, one));
      const got = await Array.fromAsync(processEvents(body(joined([...framed, endOfStream("{}")]), cuts)));
      expect(got).toEqual(sent.map((one) => one.event!.event));
    }),
  );
});

test("the guest's error, a stream without an end and a message of absurd length are errors", async () => {
  const drain = (whole: Uint8Array) => Array.fromAsync(processEvents(body(whole, [3])));
  const failed = endOfStream('{"error":{"code":"not_found","message":"no process 9"}}');
  await expect(drain(failed)).rejects.toMatchObject({ rawMessage: "no process 9" });
  await expect(drain(new Uint8Array([0, 0, 0]))).rejects.toThrow("the stream ended in the middle");
  await expect(drain(new Uint8Array([0, 255, 255, 255, 255, 1]))).rejects.toThrow("a message of 4294967295 bytes");
});
