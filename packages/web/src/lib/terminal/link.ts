import type { Code } from "wrenn";
import { History } from "./history.ts";

/** What a terminal's connection tells. */
export type LinkEvents = {
  /** Output that was not shown yet. `repeated` when it was written before this connection: nothing in it wants an answer. */
  output(bytes: Uint8Array, repeated: boolean): void;
  /** What is shown is not what comes next: clear it. */
  reset(): void;
  state(state: LinkState, why?: string): void;
  /** The name under which the terminal is found again. */
  tag(tag: string): void;
  size(): { cols: number; rows: number };
};

/** `ended` is final: its program has ended. */
export type LinkState = "connecting" | "open" | "lost" | "ended";

type Frame = {
  type: "started" | "output" | "exit" | "error" | "ping";
  tag?: string;
  data?: string;
  code?: Code;
  exit_code?: number;
  fatal?: boolean;
};

/** Pauses between attempts to come back. */
const retryMs = [200, 500, 1_000, 2_000, 4_000];
/** A guest repeats what it has at once; after this long without more of it, the repetition is over. */
const repeatQuietMs = 150;
/** The server pings every 30 s. */
const silentMs = 70_000;

/** How a terminal is reached. */
export type LinkOptions = {
  url: string;
  /** The terminal to come back to; a new one is started when it is absent. */
  tag?: string | undefined;
};

/** A terminal in a sandbox over a WebSocket. When it breaks it is opened again, and the same terminal goes on by its tag. */
export class Link {
  #socket: WebSocket | undefined;
  #attempt = 0;
  #closed = false;
  #tag: string | undefined;
  readonly #history = new History();
  /** What a guest repeats after a new connection, until it is known where it goes on; undefined when nothing is expected. */
  #repeated: Uint8Array | undefined;
  #isAnswerFree = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #unsent: string[] = [];

  constructor(
    readonly options: LinkOptions,
    readonly events: LinkEvents,
  ) {
    this.#tag = options.tag;
    this.#open();
    addEventListener("online", this.#hurry);
  }

  /** Types text or raw bytes. */
  type(text: string): void {
    this.#send({ type: "input", data: base64(new TextEncoder().encode(text)) });
  }

  /** Types what `xterm` gives as bytes, one a character. */
  typeBinary(binary: string): void {
    this.#send({ type: "input", data: btoa(binary) });
  }

  /** Tells the terminal its new size. */
  resize(size: { cols: number; rows: number }): void {
    if (this.#socket?.readyState === WebSocket.OPEN && this.#tag) this.#send({ type: "resize", ...size });
  }

  /** Ends the terminal's program. */
  kill(): void {
    this.#send({ type: "kill" });
  }

  /** Leaves the terminal running. */
  close(): void {
    this.#closed = true;
    removeEventListener("online", this.#hurry);
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#socket?.close();
  }

  readonly #hurry = () => {
    if (this.#socket === undefined && !this.#closed) this.#open();
  };

  #open(): void {
    clearTimeout(this.#timer);
    this.events.state("connecting");
    const socket = new WebSocket(this.options.url);
    this.#socket = socket;
    socket.onopen = () => this.#begin();
    socket.onmessage = ({ data }) => this.#received(JSON.parse(data as string) as Frame);
    socket.onclose = () => this.#lost(socket);
    this.#watch();
  }

  #begin(): void {
    const size = this.events.size();
    if (this.#tag === undefined) return this.#now({ type: "start", ...size });
    this.#repeated = new Uint8Array();
    this.#isAnswerFree = true;
    this.#now({ type: "connect", tag: this.#tag });
  }

  #received(frame: Frame): void {
    this.#watch();
    if (frame.type === "started") this.#started(frame.tag!);
    else if (frame.type === "output") this.#output(bytesOf(frame.data!));
    else if (frame.type === "exit") this.#end(`ended with code ${frame.exit_code}`);
    else if (frame.type === "error") this.#failed(frame);
  }

  #started(tag: string): void {
    this.#attempt = 0;
    if (tag) {
      this.#tag = tag;
      this.events.tag(tag);
    }
    this.events.state("open");
    if (this.#isAnswerFree) this.#now({ type: "resize", ...this.events.size() });
    if (this.#repeated) this.#repeatEnds();
    for (const text of this.#unsent.splice(0)) this.#socket?.send(text);
  }

  #output(bytes: Uint8Array): void {
    if (!this.#repeated) return this.#show(bytes);
    this.#repeated = joined(this.#repeated, bytes);
    this.#resolve(false);
  }

  #show(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#history.add(bytes);
    this.events.output(bytes, this.#isAnswerFree);
    if (this.#isAnswerFree) this.#repeatEnds();
  }

  #resolve(isWhole: boolean): void {
    if (!this.#repeated) return;
    const rest = this.#history.rest(this.#repeated, isWhole);
    if (!rest) return this.#repeatEnds();
    this.#repeated = undefined;
    if (rest.lost) this.events.reset();
    this.#show(rest.bytes);
    this.#repeatEnds();
  }

  #repeatEnds(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#repeated) this.#resolve(true);
      this.#repeated = undefined;
      this.#isAnswerFree = false;
    }, repeatQuietMs);
  }

  #failed({ data = "", code, fatal }: Frame): void {
    if (!fatal) return;
    // The terminal's program ended while nobody looked; any other reason may pass.
    if (this.#tag && code === "not_found") this.#end("has ended");
    else this.events.state("lost", data);
  }

  #end(why: string): void {
    this.#closed = true;
    this.events.state("ended", why);
    this.close();
  }

  #lost(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    clearTimeout(this.#silence);
    clearTimeout(this.#timer);
    this.#isAnswerFree = false;
    this.#repeated = undefined;
    if (this.#closed) return;
    this.events.state("lost");
    const pause = retryMs[Math.min(this.#attempt++, retryMs.length - 1)]!;
    this.#timer = setTimeout(() => this.#open(), pause);
  }

  #watch(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket?.close(), silentMs);
  }

  /** What is typed while the connection is away is sent when it is back, in its order. */
  #send(frame: object): void {
    const text = JSON.stringify(frame);
    if (this.#socket?.readyState === WebSocket.OPEN && this.#tag) this.#socket.send(text);
    else this.#unsent.push(text);
  }

  #now(frame: object): void {
    this.#socket?.send(JSON.stringify(frame));
  }
}

function bytesOf(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Few enough arguments for one call. */
const chunk = 8_192;

function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += chunk) binary += String.fromCharCode(...bytes.subarray(at, at + chunk));
  return btoa(binary);
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
