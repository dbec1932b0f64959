import { type hostagent, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import { hostError } from "../../hosts/host.ts";
import { isOver, isRunning, isSettled } from "../../store/phase.ts";
import type { SandboxRow, Terms } from "../../store/schema/index.ts";
import { type Caller, systemCaller } from "../caller.ts";
import { limits } from "../limits.ts";
import { absent, wrongState } from "../refusals.ts";
import type { Sandboxes } from "../sandboxes.ts";
import type { Policies } from "./policies.ts";

/** What a sandbox without a policy may reach: everything that its host allows. */
export const openPolicy: rest.NetworkPolicy = { internet: true, allow: [], deny: [], rules: {} };

/** A policy, and what came of it. */
export type Seen = Pick<hostagent.GetSandboxNetworkResponse, "connections" | "denials" | "detail"> & {
  policy: rest.NetworkPolicy;
};

/** Identity tokens live for an hour: each is renewed when a quarter of that is over, and twice more if that fails. */
const renewEveryMs = 15 * 60_000;

/** What sandboxes may reach, and do reach. */
export class Networks implements Disposable {
  readonly #timer: Timer;

  constructor(
    readonly sandboxes: Sandboxes,
    readonly policies: Policies,
  ) {
    this.#timer = setInterval(() => void this.renewTokens(), renewEveryMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** A sandbox's policy, and what it reached and was refused in the last hour. Throws `not_found` for one that is over. */
  async get(caller: Caller, id: SandboxId): Promise<Seen> {
    const row = await this.#present(caller, id);
    const policy = row.network ?? openPolicy;
    if (!isRunning(row)) return { policy, connections: [], denials: [], detail: "" };
    const { rpc } = this.#host(row);
    try {
      return { ...(await rpc.getSandboxNetwork({ id }, this.sandboxes.fleet.options(caller, limits.quick))), policy };
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** Replaces a policy, at once for a running sandbox. `terms` are what a client of the E2B dialect is shown of it. */
  async set(caller: Caller, id: SandboxId, policy: rest.NetworkPolicy, terms?: Terms): Promise<SandboxRow> {
    const row = await this.#present(caller, id);
    if (!isSettled(row)) throw wrongState(row);
    await this.policies.check(caller.team, policy, row.terms);
    await this.#tell(caller, { ...row, network: policy });
    const written = await this.sandboxes.store.write(row, { network: policy, ...(terms && { terms }) });
    if (written) return written;
    throw new WrennError("conflict", "The sandbox changed meanwhile.", { remedy: "Set its network once more." });
  }

  /** Has the hosts of running sandboxes use the value that a secret has now. One that is paused gets it when it resumes. */
  async renew(caller: Caller, secret: string): Promise<void> {
    await this.#renewAll(await this.sandboxes.store.runningWithPolicy(`secrets.${secret}`, caller.team));
  }

  /** Gives the hosts of running sandboxes fresh identity tokens. */
  async renewTokens(): Promise<void> {
    const rows = await this.sandboxes.store.runningWithPolicy("identity.tokens.").catch(() => []);
    await this.#renewAll(rows);
  }

  async #renewAll(rows: readonly SandboxRow[]): Promise<void> {
    const told = await Promise.allSettled(rows.map((row) => this.#tell(systemCaller(row), row)));
    for (const [at, result] of told.entries())
      if (result.status === "rejected")
        this.sandboxes.log.warn({ err: result.reason, sandbox: rows[at]!.id }, "new values of a policy were not told");
  }

  async #tell(caller: Caller, row: SandboxRow): Promise<void> {
    const request = { id: row.id, network: await this.policies.wire(row) };
    try {
      await this.#host(row).rpc.setSandboxNetwork(request, this.sandboxes.fleet.options(caller, limits.quick));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  #host({ hostId }: SandboxRow) {
    return this.sandboxes.fleet.host(hostId);
  }

  async #present(caller: Caller, id: SandboxId): Promise<SandboxRow> {
    const row = await this.sandboxes.get(caller, id);
    if (isOver(row)) throw absent(id);
    return row;
  }
}
