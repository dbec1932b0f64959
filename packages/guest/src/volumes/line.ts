import { decodeVolumeMessage, encodeVolumeMessage, type VolumeAnswer, type VolumeCall } from "@wrenn/contract/core";

/** What came of a call, with the bytes that were read. */
export type Answered = { readonly head: VolumeAnswer; readonly body: Uint8Array };

/** The host's end of a connection, as far as it matters here. */
export type HostEnd = { send(message: Uint8Array): unknown };

type Pending = { mount: string; call: VolumeCall; body: Uint8Array | undefined; done(answered: Answered): void };

/**
 * The way to the host. Calls wait while there is none, and are made again on the next one: a machine that was paused, or
 * whose host agent was restarted, goes on where it was.
 */
export class Line {
  readonly #pending = new Map<number, Pending>();
  #host: HostEnd | undefined;
  #last = 0;

  /** Whether somebody is there to answer. */
  get isOpen(): boolean {
    return this.#host !== undefined;
  }

  /** Asks the host. */
  ask(mount: string, call: VolumeCall, body?: Uint8Array): Promise<Answered> {
    const id = ++this.#last;
    return new Promise((done) => {
      this.#pending.set(id, { mount, call, body, done });
      this.#host?.send(encodeVolumeMessage({ ...call, id, mount }, body));
    });
  }

  /** The host's end from now on: what waits is asked again. */
  open(host: HostEnd): void {
    this.#host = host;
    for (const [id, { mount, call, body }] of this.#pending)
      host.send(encodeVolumeMessage({ ...call, id, mount, again: true }, body));
  }

  /** That end is gone, unless another took its place. */
  closed(host: HostEnd): void {
    if (this.#host === host) this.#host = undefined;
  }

  /** A message of the host. One that was answered already changes nothing. */
  answered(message: Uint8Array): void {
    const { head, body } = decodeVolumeMessage<VolumeAnswer>(message);
    const waiting = this.#pending.get(head.id);
    this.#pending.delete(head.id);
    waiting?.done({ head, body });
  }
}
