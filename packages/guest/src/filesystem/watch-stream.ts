import type { MessageInitShape } from "@bufbuild/protobuf";
import { filesystem as wire } from "@wrenn/contract/wire";
import { encode } from "../connect/codec.ts";
import { encodeEnvelope, flag } from "../connect/envelope.ts";
import type { FrameSource } from "../connect/method.ts";
import type { Watcher } from "./watch.ts";

/** The events of a watched directory for one reader: `start`, then a message each. */
export class WatchStream implements FrameSource {
  onReady: () => void = () => {};
  readonly ended = false;
  readonly failure = undefined;
  #started = false;

  constructor(
    readonly watcher: Watcher,
    readonly json: boolean,
  ) {
    watcher.onEvents = () => this.onReady();
  }

  take(): Uint8Array<ArrayBuffer> | undefined {
    if (!this.#started) {
      this.#started = true;
      return this.#frame({ event: { case: "start", value: {} } });
    }
    const event = this.watcher.shift();
    return event && this.#frame({ event: { case: "filesystem", value: event } });
  }

  keepalive(): Uint8Array<ArrayBuffer> {
    return this.#frame({ event: { case: "keepalive", value: {} } });
  }

  close(): void {
    this.watcher.close();
  }

  #frame(message: MessageInitShape<typeof wire.WatchDirResponseSchema>): Uint8Array<ArrayBuffer> {
    return encodeEnvelope(flag.data, encode(wire.WatchDirResponseSchema, message, this.json));
  }
}
