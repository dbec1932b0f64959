import { type Lane, Mux, type Replicas, tunnelBeatMs } from "@wrenn/contract/tunnel";
import type { Log } from "../log.ts";
import { Rounds } from "../rounds.ts";
import type { ReplicaStore } from "../store/fleet/replicas.ts";

/** The scheme of the address of a host that dials in; what follows is the host's id. */
export const tunnelScheme = "tunnel:";

/** The line of a host to this replica, as its edge has it. */
export type Line = {
  readonly host: string;
  send(frame: Uint8Array<ArrayBuffer>): void;
  say(replicas: Replicas): void;
  /** Whether the host still may have it. */
  isWelcome(): Promise<boolean>;
  close(): void;
};

type Place = { address: string; mux: Mux | undefined; line: Line | undefined; listener: Disposable };

/**
 * Hosts that nobody can connect to, and that dialled this replica. Each is reached at an address of this machine's
 * loopback, whose connections go over the host's line: TLS and certificates are between the same two ends as ever, so
 * whoever else connects there is refused by the host itself.
 */
export class Tunnels implements AsyncDisposable {
  readonly #places = new Map<string, Place>();
  readonly #id = crypto.randomUUID();
  readonly #rounds: Rounds;
  #replicas: string[] = [this.#id];
  /** Called with a host that just dialled in: it can be connected to now. */
  onJoin: (host: string) => void = () => {};

  constructor(
    readonly store: ReplicaStore,
    readonly log: Log,
  ) {
    this.#rounds = new Rounds(
      tunnelBeatMs,
      () => this.#beat(),
      (err) => log.warn({ err }, "hosts that dial in could not be told who is there"),
    );
    void this.#rounds.run();
  }

  /** Where a host is reached, whether or not it has a line now: what is sent meanwhile fails as for a host that is away. */
  addressOf(host: string): string {
    return this.#place(host).address;
  }

  /** Whether the host has a line to this replica. */
  has(host: string): boolean {
    return this.#places.get(host)?.line !== undefined;
  }

  /** Says to a host that dialled who answers, so that it can take the line or leave it. */
  greet(line: Line): void {
    line.say(this.#told());
  }

  /** Takes a line into use, in place of the one that the host had. Answers what its frames go to. */
  join(line: Line): (frame: Uint8Array) => void {
    const place = this.#place(line.host);
    place.line?.close();
    place.mux?.close();
    const mux = new Mux((frame) => line.send(frame));
    place.mux = mux;
    place.line = line;
    void this.#rounds.run(); // another replica may have come since, which the host is to dial too
    this.log.info({ host: line.host }, "the host dialled in");
    this.onJoin(line.host);
    return (frame) => mux.received(frame);
  }

  /** A line has ended. */
  left(line: Line): void {
    const place = this.#places.get(line.host);
    if (place?.line !== line) return;
    place.mux?.close();
    place.mux = undefined;
    place.line = undefined;
  }

  /** Ends every line; hosts dial other replicas, or this one when it is back. */
  hangUp(): void {
    for (const { line } of this.#places.values()) line?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
    this.hangUp();
    for (const { mux, listener } of this.#places.values()) {
      mux?.close();
      listener[Symbol.dispose]();
    }
    await this.store.forget(this.#id).catch(() => {}); // or it is forgotten when it was silent for long enough
  }

  #told = (): Replicas => ({ replica: this.#id, replicas: this.#replicas });

  /** Says to every host who is there, and to those that may not be here any more that it is over. */
  async #beat(): Promise<void> {
    this.#replicas = await this.store.note(this.#id);
    for (const { line } of this.#places.values()) {
      if (!line) continue;
      if (await line.isWelcome()) line.say(this.#told());
      else line.close();
    }
  }

  #place(host: string): Place {
    const known = this.#places.get(host);
    if (known) return known;
    const listener = Bun.listen<Lane | undefined>({
      ...{ hostname: "127.0.0.1", port: 0 },
      socket: {
        open(socket) {
          socket.data = place.mux?.open();
          if (socket.data) socket.data.opened(socket);
          else socket.terminate();
        },
        data: (socket, bytes) => socket.data?.received(bytes),
        drain: (socket) => socket.data?.drained(),
        close: (socket) => socket.data?.closed(),
        error: (socket) => socket.data?.closed(),
      },
    });
    const dispose = { [Symbol.dispose]: () => listener.stop(true) };
    const place: Place = {
      address: `https://127.0.0.1:${listener.port}`,
      ...{ mux: undefined, line: undefined, listener: dispose },
    };
    this.#places.set(host, place);
    return place;
  }
}
