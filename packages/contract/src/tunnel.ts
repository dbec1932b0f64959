/**
 * Many TCP connections over one WebSocket: a host agent that nobody can connect to dials its control plane, and the
 * control plane's connections to it go over that line. Both ends are a {@link Mux}.
 *
 * A binary message is a frame: one byte of kind, four of the connection's number (big-endian), then its content. Text
 * messages are the control plane's {@link Replicas}, and the host's {@link tunnelTaken}, without which a line carries
 * nothing: a host that has one to the same replica gives the second up.
 */

/** Which replica answered a dialling host, and which ones there are: the host dials until it has a line to each. */
export type Replicas = { replica: string; replicas: string[] };

/** What the host says when it keeps a line. */
export const tunnelTaken = "taken";

/** The control plane says who it is this often; a line that is silent for three of these is dead. */
export const tunnelBeatMs = 15_000;

/** Bytes of one connection that may be under way before its reader took any. */
const windowBytes = 256 * 1024;
/** What is taken is told in lumps, so that small pieces do not each cost a frame. */
const creditLumpBytes = 64 * 1024;
/** A sender looks at its window before a piece, not within it; one that goes so far beyond does not keep to it at all. */
const mostUnreadBytes = 16 * 1024 * 1024;

const kinds = { open: 0, data: 1, close: 2, credit: 3 } as const;
const headBytes = 5;

/** What a {@link Mux} needs of a TCP socket; Bun's has it. */
export type TunnelSocket = {
  /** Answers how many bytes were taken; the rest waits for the socket to drain. Negative when it is closed. */
  write(bytes: Uint8Array): number;
  end(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
};

/** One connection of a line; the owner of its socket tells it what happens there. */
export class Lane {
  readonly #unsent: Uint8Array[] = [];
  #socket: TunnelSocket | undefined;
  #credit = windowBytes;
  #unread = 0;
  #taken = 0;
  #isPaused = false;
  /** The other end closed. */
  #isEnding = false;
  #isOver = false;

  constructor(
    readonly send: (kind: keyof typeof kinds, content: Uint8Array) => void,
    /** Takes the connection off the line. */
    readonly forget: () => void,
  ) {}

  /** The socket is open. */
  opened(socket: TunnelSocket): void {
    this.#socket = socket;
    this.drained();
  }

  /** The socket received something. */
  received(bytes: Uint8Array): void {
    this.send("data", bytes);
    this.#credit -= bytes.byteLength;
    if (this.#credit > 0 || this.#isPaused) return;
    this.#isPaused = true;
    this.#socket?.pause();
  }

  /** The socket takes bytes again. */
  drained(): void {
    while (this.#socket && this.#unsent.length > 0) {
      const next = this.#unsent[0]!;
      const written = Math.max(0, this.#socket.write(next));
      this.#took(written);
      this.#unsent[0] = next.subarray(written);
      if (written < next.byteLength) return;
      this.#unsent.shift();
    }
    if (this.#isEnding) this.#socket?.end();
  }

  /** The socket closed, or could not be opened. */
  closed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#socket = undefined;
    if (!this.#isEnding) this.send("close", new Uint8Array());
    this.forget();
  }

  /** The other end sent something. */
  arrived(bytes: Uint8Array): void {
    this.#unread += bytes.byteLength;
    this.#unsent.push(bytes);
    if (this.#unread > mostUnreadBytes) this.cut();
    else if (this.#unsent.length === 1) this.drained();
  }

  /** The other end took so many bytes more. */
  credited(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit <= 0 || !this.#isPaused) return;
    this.#isPaused = false;
    this.#socket?.resume();
  }

  /** The other end closed: what it sent before still arrives. */
  ended(): void {
    this.#isEnding = true;
    this.drained();
  }

  /** Breaks the connection off. */
  cut(): void {
    const socket = this.#socket;
    this.closed();
    socket?.terminate();
  }

  #took(bytes: number): void {
    this.#unread -= bytes;
    this.#taken += bytes;
    if (this.#taken < creditLumpBytes || this.#isEnding) return;
    const told = new Uint8Array(4);
    new DataView(told.buffer).setUint32(0, this.#taken);
    this.#taken = 0;
    this.send("credit", told);
  }
}

/** One end of a line. `accept` is called for each connection that the other end opens; without it there are none. */
export class Mux {
  readonly #lanes = new Map<number, Lane>();
  #next = 1;
  #isOver = false;

  constructor(
    readonly send: (frame: Uint8Array<ArrayBuffer>) => void,
    readonly accept?: (lane: Lane) => void,
  ) {}

  /** A new connection to the other end. */
  open(): Lane {
    const lane = this.#lane(this.#next++);
    lane.send("open", new Uint8Array());
    return lane;
  }

  /** Takes a frame of the other end; what is no frame, or of no connection there is, is passed over. */
  received(frame: Uint8Array): void {
    if (frame.byteLength < headBytes) return;
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const id = view.getUint32(1);
    const lane = this.#lanes.get(id);
    const kind = view.getUint8(0);
    if (kind === kinds.open && !lane) this.accept?.(this.#lane(id));
    // The message's buffer is its reader's: what waits is a copy.
    if (kind === kinds.data) lane?.arrived(frame.slice(headBytes));
    if (kind === kinds.close) lane?.ended();
    if (kind === kinds.credit && frame.byteLength >= headBytes + 4) lane?.credited(view.getUint32(headBytes));
  }

  /** The line is gone: every connection breaks off. */
  close(): void {
    this.#isOver = true;
    for (const lane of [...this.#lanes.values()]) lane.cut();
  }

  #lane(id: number): Lane {
    const send = (kind: keyof typeof kinds, content: Uint8Array) => {
      if (!this.#isOver) this.send(frameOf(kinds[kind], id, content));
    };
    const lane = new Lane(send, () => this.#lanes.delete(id));
    this.#lanes.set(id, lane);
    return lane;
  }
}

function frameOf(kind: number, id: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(headBytes + content.byteLength);
  const view = new DataView(frame.buffer);
  view.setUint8(0, kind);
  view.setUint32(1, id);
  frame.set(content, headBytes);
  return frame;
}
