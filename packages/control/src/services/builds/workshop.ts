import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { fromConnectError, type processes, type SandboxId, WrennError } from "@wrenn/contract";
import { taken } from "../../hosts/adopter.ts";
import type { Guest } from "../../hosts/guest.ts";
import { hostError } from "../../hosts/host.ts";
import type { SandboxRow, SnapshotRow } from "../../store/schema/index.ts";
import { buildLabel, type SnapshotStore } from "../../store/snapshots.ts";
import type { Caller } from "../caller.ts";
import { type Guests, guestError } from "../guests.ts";
import { limits } from "../limits.ts";
import type { Sandboxes, Source } from "../sandboxes.ts";
import type { Run } from "./actions.ts";
import { asTar } from "./archive.ts";
import { streamOf } from "./bytes.ts";
import type { Bytes, Owner } from "./copying.ts";

/** A build's sandbox that nobody looks after any more ends after this long without a command. */
const abandonedSec = 15 * 60;

/** Runs a tool of the guest's own BusyBox, which is there whatever else an image lacks; where it is not, the image's. */
const tool = ["/bin/sh", "-c", 'b=/usr/local/lib/wrenn/busybox; [ -x $b ] || b=; exec $b "$@"', "sh"] as const;

/** Files that travel into or out of the guest pass through this one. */
const parcel = "/.wrenn-parcel.tar.gz";
/** The way into an emulated guest is slow: what compresses at all is worth the least effort. */
const level = 1;

/** What the sandboxes of builds stand on. */
export type ShopGround = { sandboxes: Sandboxes; guests: Guests; snapshots: SnapshotStore };
/** Who gets what a command prints, as it prints. */
export type Listener = (stream: "stdout" | "stderr", bytes: Uint8Array) => void;
/** A size to start at; zero takes the source's. */
export type ShopSize = { vcpus: number; memoryMib: number };

/** The sandbox that a stage of a build happens in. Disposing of it removes it. */
export class Workshop implements AsyncDisposable {
  private constructor(
    readonly ground: ShopGround,
    readonly caller: Caller,
    readonly row: SandboxRow,
    readonly signal: AbortSignal,
  ) {}

  /** Starts one. `label` stands in its metadata. */
  static async open(
    ground: ShopGround,
    caller: Caller,
    from: { source: Source; size: ShopSize; label: string },
    signal: AbortSignal,
  ): Promise<Workshop> {
    const row = await patiently(signal, () =>
      ground.sandboxes.start(caller, from.source, {
        vcpus: from.size.vcpus,
        memory_mb: from.size.memoryMib,
        timeout_sec: abandonedSec,
        timeout_action: "kill",
        metadata: { [buildLabel]: from.label },
      }),
    );
    const shop = new Workshop(ground, caller, row, signal);
    if (!signal.aborted) return shop;
    await shop[Symbol.asyncDispose]();
    throw signal.reason;
  }

  get id(): SandboxId {
    return this.row.id;
  }

  /** Runs a command to its end; answers its exit status. Throws when the build is over, or the command's time is. */
  async run(run: Run, heard: Listener = () => {}): Promise<number> {
    const limit = run.timeoutSec === undefined ? undefined : AbortSignal.timeout(run.timeoutSec * 1000);
    const signal = limit ? AbortSignal.any([this.signal, limit]) : this.signal;
    const guest = await this.#guest(run.user);
    try {
      for await (const { event } of guest.processes.start(startOf(run), { signal })) {
        const happened = event?.event;
        if (happened?.case === "data") tell(happened.value.output, heard);
        else if (happened?.case === "end") return happened.value.exitCode;
      }
    } catch (thrown) {
      this.signal.throwIfAborted();
      if (limit?.aborted) throw overtime(run.timeoutSec!);
      throw runError(thrown);
    }
    throw new WrennError("agent_error", "The command's stream ended before the command.", { remedy: "Build again." });
  }

  /** Starts a command that stays. */
  async start(run: Run): Promise<void> {
    const guest = await this.#guest(run.user);
    const left = new AbortController();
    try {
      for await (const { event } of guest.processes.start({ ...startOf(run), tag: "start" }, { signal: left.signal }))
        if (event?.event.case === "start") return;
    } catch (thrown) {
      throw guestError(thrown);
    } finally {
      left.abort();
    }
  }

  /** Whether the command that {@link start} began still runs. */
  async isStarted(): Promise<boolean> {
    const guest = await this.#guest("root");
    return (await guest.processes.list({})).processes.some(({ tag }) => tag === "start");
  }

  /** Makes a folder and its parents; an existing one is left alone. A new one belongs to `user`. */
  async folder(path: string, user: string): Promise<void> {
    if (await this.isFolder(path)) return;
    const guest = await this.#guest("root");
    await guest.filesystem.makeDir({ path }).catch((thrown) => {
      throw guestError(thrown);
    });
    if (user !== "root") await this.must(["chown", String((await this.account(user)).uid), path]);
  }

  /** Whether there is a folder at `path`. */
  async isFolder(path: string): Promise<boolean> {
    const guest = await this.#guest("root");
    try {
      const { entry } = await guest.filesystem.stat({ path });
      return entry?.type === 2 || (entry?.type === 3 && (await this.isFolder(`${path}/.`)));
    } catch {
      return false;
    }
  }

  /** Text of a file; empty when there is none. */
  async text(path: string): Promise<string> {
    const guest = await this.#guest("root");
    return await guest.http(`/files?path=${encodeURIComponent(path)}`, { signal: this.signal }).then(
      (response) => response.text(),
      () => "",
    );
  }

  /** Writes a file, which is root's. */
  async write(path: string, bytes: Uint8Array): Promise<void> {
    const guest = await this.#guest("root");
    const headers = { "content-type": "application/octet-stream" };
    const init = { method: "POST", headers, body: bytes as Uint8Array<ArrayBuffer>, signal: this.signal };
    await guest.http(`/files?path=${encodeURIComponent(path)}`, init).catch((thrown) => {
      throw guestError(thrown);
    });
  }

  /** Unpacks a tar at the root of the guest. */
  async unpack(tar: Bytes): Promise<void> {
    const guest = await this.#guest("root");
    let failure: unknown;
    const gzip = createGzip({ level });
    const source = Readable.from(tar).on("error", (thrown) => {
      failure = thrown; // says more than the request that breaks off for it
      gzip.destroy(thrown);
    });
    const body = streamOf(source.pipe(gzip));
    try {
      const headers = { "content-type": "application/octet-stream" };
      const init = { method: "POST", headers, body, duplex: "half" as const, signal: this.signal };
      await guest.http(`/files?path=${parcel}`, init);
    } catch (thrown) {
      throw failure ?? guestError(thrown);
    }
    await this.must(["tar", "-xzpf", parcel, "-C", "/"]);
    await this.must(["rm", "-f", parcel]);
  }

  /** The paths, relative to the root of the guest, as a tar with names relative to it. */
  async packed(paths: readonly string[]): Promise<Bytes> {
    await this.must(["tar", "-czf", parcel, "-C", "/", ...paths.map((path) => `./${path}`)]);
    const guest = await this.#guest("root");
    const headers = { "accept-encoding": "identity" };
    const response = await guest.http(`/files?path=${parcel}`, { headers, signal: this.signal });
    return asTar(response.body as unknown as Bytes);
  }

  /** Numbers of `name[:group]`, which may be numbers already. Throws `invalid_request` for one the guest does not know. */
  async owner(text: string): Promise<Owner> {
    const [user = "root", group] = text.split(":");
    const account = await this.account(user);
    if (group === undefined) return account;
    if (/^\d+$/.test(group)) return { ...account, gid: Number(group) };
    const row = rows(await this.text("/etc/group")).find(([name]) => name === group);
    if (!row) throw new WrennError("invalid_request", `there is no group "${group}"`, { remedy: "Add it first." });
    return { ...account, gid: Number(row[2]) };
  }

  /** Numbers and name of an account, by either. */
  async account(user: string): Promise<Owner & { name: string }> {
    const isNumber = /^\d+$/.test(user);
    const row = rows(await this.text("/etc/passwd")).find((one) => one[isNumber ? 2 : 0] === user);
    if (row) return { uid: Number(row[2]), gid: Number(row[3]), name: row[0]! };
    if (isNumber || user === "root") return { uid: Number(user) || 0, gid: Number(user) || 0, name: user };
    throw new WrennError("invalid_request", `there is no user "${user}"`, { remedy: "Add it first." });
  }

  /** Takes a snapshot, which is the build's; with `diskOnly` what starts from it boots, and finds files alone. */
  async checkpoint(name: string, diskOnly: boolean): Promise<SnapshotRow> {
    this.signal.throwIfAborted();
    const { sandboxes, snapshots } = this.ground;
    const host = sandboxes.fleet.host(this.row.hostId);
    const options = sandboxes.fleet.options(this.caller, limits.checkpoint);
    try {
      const { snapshot } = await host.rpc.checkpointSandbox({ id: this.id, diskOnly }, options);
      return (await snapshots.insert({ ...taken(this.row, snapshot!), name, metadata: {}, ofBuild: true }))!;
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** Runs a command of BusyBox as root. Throws `agent_error` with what it said when it fails. */
  async must(argv: readonly string[]): Promise<void> {
    let said = "";
    const run = { argv: [...tool, ...argv], user: "root", cwd: "/", env: {}, timeoutSec: undefined };
    const status = await this.run(run, (_, bytes) => {
      said = (said + Buffer.from(bytes).toString()).slice(-1_000);
    });
    if (status === 0) return;
    throw new WrennError(
      "agent_error",
      `${argv[0]} failed in the build's sandbox: ${said.trim() || `status ${status}`}`,
      {
        remedy: "Check that the image has this program and that its disk is not full.",
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ground.sandboxes.destroy(this.caller, this.id).catch(() => {}); // noted, and carried out later
  }

  async #guest(user: string): Promise<Guest> {
    this.signal.throwIfAborted();
    const name = /^\d+$/.test(user) ? (await this.account(user)).name : user;
    return await this.ground.guests.open(this.caller, this.id, name);
  }
}

/** Does again what is refused with a time to come back: a build has more time than a client. */
async function patiently<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (thrown) {
      const wait = thrown instanceof WrennError && thrown.code === "unavailable" && thrown.details?.retry_after_sec;
      if (!wait) throw thrown;
      await Bun.sleep(Number(wait) * 1000);
    }
  }
}

/** Why a command could not be run. Clients of the E2B builder compare the text for an unknown user (E2B protocol, section 5). */
function runError(thrown: unknown): WrennError {
  const { message, remedy } = guestError(thrown);
  if (fromConnectError(thrown).code !== "unauthorized") return guestError(thrown);
  return new WrennError("invalid_request", `command failed: unauthenticated: ${message}`, { remedy, cause: thrown });
}

const startOf = ({ argv, cwd, env }: Run) => ({
  process: { cmd: argv[0]!, args: argv.slice(1), envs: { ...env }, cwd },
  stdin: false,
});

function tell(output: processes.ProcessEvent_DataEvent["output"], heard: Listener): void {
  if (output.case === "stdout" || output.case === "stderr") heard(output.case, output.value);
}

const overtime = (sec: number) =>
  new WrennError("timeout", `it did not end within ${sec} s`, { remedy: "Give it more time with RUN --timeout=5m." });

const rows = (table: string): string[][] => table.split("\n").map((line) => line.split(":"));
