import { createHmac } from "node:crypto";
import { prefixes, randomId } from "@wrenn/contract";
import type { Log } from "../../log.ts";
import { type AuditFilter, type AuditStore, chainStart, type NewAudit } from "../../store/people/audit.ts";
import type { AuditRow } from "../../store/schema/index.ts";
import type { Actor, Caller } from "../caller.ts";

/** Entries are gathered for this long and written in one statement: an insert per command would slow every command. */
const gatherMs = 200;
/** How often what is written is sealed; reading seals first. */
const sealMs = 5_000;
/** Entries written in one statement: PostgreSQL takes 65,535 parameters. */
const writeBatch = 2_000;
/** A database that is away is asked again after this. */
const againMs = 1_000;
/** Entries that wait for it: some minutes of a busy server. */
const maxWaiting = 100_000;
/** Longest text of a value; a command line may be a whole script. */
const maxTextLength = 1_000;

/** Something that was done. */
export type Deed = {
  /** What it was done to. */
  resource: { type: string; id?: string };
  action: string;
  /** Who of a team sees it: everybody, or owners and administrators. */
  scope?: AuditRow["scope"];
  status?: AuditRow["status"];
  metadata?: Readonly<Record<string, string>>;
};

/** A chain that was looked through: how long it is, and the first entry that is not as it was written. */
export type Verdict = { ok: boolean; entries: number; broken?: { seq: number; reason: string } };

/** Who did what: complete, and sealed so that tampering shows. */
export class Audit implements AsyncDisposable {
  #waiting: NewAudit[] = [];
  #writing: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  #isEnding = false;
  readonly #sealer: Timer;

  constructor(
    readonly store: AuditStore,
    /** Keys the seals: who can only write to the database cannot make one. */
    readonly key: Buffer,
    readonly log: Log,
  ) {
    this.#sealer = setInterval(() => void this.#seal().catch((err) => log.warn({ err }, "audit seal")), sealMs);
    this.#sealer.unref();
  }

  /** Notes what a caller did. */
  note(caller: Caller, deed: Deed): void {
    this.by(caller.actor, caller.team, {
      ...deed,
      metadata: { ...deed.metadata, ...(caller.impersonator && { impersonated_by: caller.impersonator }) },
    });
  }

  /** Notes what somebody did in a team. */
  by(actor: Actor, team: string, { resource, action, scope = "team", status = "success", metadata = {} }: Deed): void {
    this.#waiting.push({
      id: prefixes.audit + randomId(),
      createdAt: new Date(),
      teamId: team,
      actorType: actor.type,
      actorId: actor.id,
      actorName: short(actor.name),
      actorDigest: this.#digest(short(actor.name)),
      resourceType: resource.type,
      resourceId: short(resource.id ?? ""),
      action,
      scope,
      status,
      metadata: Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, short(value)])),
    });
    this.#timer ??= setTimeout(() => void this.flush(), gatherMs);
  }

  /** Writes down what was noted. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  /** Entries, newest first, with everything that was noted here. */
  async list(filter: AuditFilter): Promise<AuditRow[]> {
    await this.flush();
    await this.#seal();
    return await this.store.list(filter);
  }

  /** Looks through a team's chain. */
  async verify(team: string): Promise<Verdict> {
    await this.flush();
    await this.#seal();
    const head = await this.store.head(team);
    let [seq, hash] = [0, chainStart];
    for (let rows = await this.store.chain(team, 0); rows.length > 0; rows = await this.store.chain(team, seq))
      for (const row of rows) {
        const broken = (reason: string): Verdict => ({ ok: false, entries: seq, broken: { seq: seq + 1, reason } });
        if (row.seq !== seq + 1) return broken("an entry is missing");
        const isNamed = row.actorName === "" || !row.actorDigest || this.#digest(row.actorName) === row.actorDigest;
        if (!isNamed || row.hash !== this.#hash(hash, row, row.seq)) return broken("an entry was changed");
        [seq, hash] = [row.seq, row.hash];
      }
    if (seq !== (head?.seq ?? 0) || hash !== (head?.hash ?? chainStart))
      return { ok: false, entries: seq, broken: { seq: seq + 1, reason: "the newest entries are missing" } };
    return { ok: true, entries: seq };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sealer);
    this.#isEnding = true;
    await this.flush();
  }

  async #write(): Promise<void> {
    const rows = this.#waiting;
    this.#waiting = [];
    while (rows.length > 0) {
      const batch = rows.splice(0, writeBatch);
      try {
        await this.store.insert(batch);
      } catch (err) {
        this.#later([...batch, ...rows], err);
        return;
      }
    }
  }

  /** Keeps entries for another try; at the end, or when they become too many, the log is all that holds them. */
  #later(rows: readonly NewAudit[], err: unknown): void {
    const kept = this.#isEnding ? 0 : Math.max(0, maxWaiting - this.#waiting.length);
    const lost = rows.slice(kept);
    if (lost.length > 0)
      this.log.error({ err, entries: lost }, "the audit log could not be written; the entries are here");
    this.#waiting = [...rows.slice(0, kept), ...this.#waiting];
    if (!this.#isEnding) this.#timer ??= setTimeout(() => void this.flush(), againMs);
  }

  async #seal(): Promise<void> {
    while (await this.store.seal((previous, row, seq) => this.#hash(previous, row, seq)));
  }

  #digest(name: string): string {
    return name === "" ? "" : createHmac("sha256", this.key).update(`actor:${name}`).digest("hex");
  }

  #hash(previous: string, row: AuditRow, seq: number): string {
    const { n: _n, seq: _seq, hash: _hash, metadata, createdAt, actorName, actorDigest, ...rest } = row;
    // The name may be erased with its account; the digest stays and says whose it was to who knows the name.
    const facts = Object.entries({
      ...rest,
      actor: actorDigest || actorName,
      createdAt: createdAt.toISOString(),
      seq,
    }).sort(byName);
    const text = JSON.stringify([previous, facts, Object.entries(metadata).sort(byName)]);
    return createHmac("sha256", this.key).update(text).digest("hex");
  }
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1);
/** PostgreSQL stores no NUL, and an entry that cannot be stored would keep those after it from being so. */
function short(text: string): string {
  const plain = text.replaceAll("\0", "\ufffd");
  return plain.length > maxTextLength ? `${plain.slice(0, maxTextLength)}…` : plain;
}
