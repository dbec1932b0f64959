import { describe, expect, test } from "bun:test";
import { type Lane, Mux, type TunnelSocket } from "@wrenn/contract/tunnel";
import fc from "fast-check";

/** A socket in memory whose reader takes `appetite` bytes whenever it is fed. */
class FakeSocket implements TunnelSocket {
  readonly got: number[] = [];
  room: number;
  isPaused = false;
  end_ = "";

  constructor(readonly appetite: number) {
    this.room = appetite;
  }

  write(bytes: Uint8Array): number {
    const taken = Math.min(this.room, bytes.byteLength);
    this.got.push(...bytes.subarray(0, taken));
    this.room -= taken;
    return taken;
  }

  end(): void {
    this.end_ ||= "ended";
  }

  terminate(): void {
    this.end_ ||= "cut";
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }
}

/** Two ends of a line in memory; `accepted` are the lanes that the second was asked for, with their sockets. */
function line(appetite: number) {
  const accepted: { lane: Lane; socket: FakeSocket }[] = [];
  const wire: [Mux, Uint8Array][] = [];
  const left: Mux = new Mux((frame) => wire.push([right, frame]));
  const right: Mux = new Mux(
    (frame) => wire.push([left, frame]),
    (lane) => {
      const socket = new FakeSocket(appetite);
      accepted.push({ lane, socket });
      lane.opened(socket);
    },
  );
  const carry = () => {
    for (let next = wire.shift(); next; next = wire.shift()) next[0].received(next[1]);
  };
  const open = () => {
    const [lane, socket] = [left.open(), new FakeSocket(appetite)];
    lane.opened(socket);
    carry();
    return { near: { lane, socket }, far: accepted.at(-1)! };
  };
  return { left, right, wire, carry, open };
}

describe("connections over one line", () => {
  test("property: each gets its own bytes, whole and in order, both ways, however slowly they are read", () => {
    const pieces = fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.uint8Array({ minLength: 1, maxLength: 40 })), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 50 }), (list, appetite) => {
        const { open, carry } = line(appetite);
        const pairs = Array.from({ length: 4 }, open);
        const sent = pairs.map(() => ({ near: [] as number[], far: [] as number[] }));
        for (const [which, isFar, bytes] of list) {
          const [from, side] = isFar ? (["far", "near"] as const) : (["near", "far"] as const);
          pairs[which]![from].lane.received(bytes);
          sent[which]![side].push(...bytes);
          carry();
        }
        for (let round = 0; round < 2_500; round++)
          for (const { lane, socket } of pairs.flatMap(({ near, far }) => [near, far])) {
            socket.room = appetite;
            lane.drained();
          }
        for (const [at, { near, far }] of pairs.entries()) {
          expect(near.socket.got).toEqual(sent[at]!.near);
          expect(far.socket.got).toEqual(sent[at]!.far);
        }
      }),
      { numRuns: 30 },
    );
  });

  test("a reader that takes nothing holds its own sender back, and no other", () => {
    const { open, carry } = line(0);
    const [slow, other] = [open(), open()];
    const piece = new Uint8Array(64 * 1024);
    for (let count = 0; count < 4; count++) slow.near.lane.received(piece);
    carry();
    expect(slow.near.socket.isPaused).toBe(true);
    expect(other.near.socket.isPaused).toBe(false);
    slow.far.socket.room = piece.byteLength;
    slow.far.lane.drained();
    carry();
    expect(slow.near.socket.isPaused).toBe(false);
  });

  test("what was sent before a close arrives before it; a line that breaks cuts what is open", () => {
    const { left, open, carry } = line(1_000);
    const [one, two] = [open(), open()];
    one.far.socket.room = 0;
    one.near.lane.received(new Uint8Array([1, 2, 3]));
    one.near.lane.closed();
    carry();
    expect([one.far.socket.got, one.far.socket.end_]).toEqual([[], ""]);
    one.far.socket.room = 10;
    one.far.lane.drained();
    expect([one.far.socket.got, one.far.socket.end_]).toEqual([[1, 2, 3], "ended"]);
    left.close();
    expect(two.near.socket.end_).toBe("cut");
  });

  test("frames of nothing, of no connection, and from one that heeds no window do no harm", () => {
    const { left, right, open, carry } = line(0);
    const { near, far } = open();
    for (const bytes of [[], [9], [1, 0, 0, 0, 99, 1], [2, 0, 0, 0, 99], [3, 0, 0, 0, 1], [0, 0, 0, 0, 1]])
      for (const end of [left, right]) end.received(new Uint8Array(bytes));
    const flood = new Uint8Array(5 + 1024 * 1024);
    flood.set([1, 0, 0, 0, 1]);
    for (let count = 0; count < 17; count++) right.received(flood);
    expect(far.socket.end_).toBe("cut");
    carry();
    expect(near.socket.end_).toBe("ended");
  });
});
