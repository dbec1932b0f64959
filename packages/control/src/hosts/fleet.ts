import { headers, type hostagent, remedyForTemplate, WrennError } from "@wrenn/contract";
import type { Load, LoadedHost } from "../store/fleet/hosts.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import { type Host, hostError } from "./host.ts";
import { type Needs, rank, type Strategy, serves } from "./placement.ts";

/** Templates change when an operator builds one; a create must not cost a second call for them each time. */
const templatesMs = 5_000;
const quickMs = 10_000;
/** Hosts asked at once for a template that none is known to have. */
const askedAtOnce = 32;

/** A host that has just come tells its templates within milliseconds; a create waits no longer for one that does not. */
const newcomerMs = 1_000;

/** Hosts are asked every minute anyway; creates ask between, each time another host, this often at most. */
const renewEveryMs = 100;

/** Options of a host call. */
export type CallOptions = { timeoutMs: number; headers: Record<string, string> };
/** A host of the registry and the way to it. */
export type Member = { row: LoadedHost; host: Host };

/** What placing a sandbox of the object store needs to know of it. */
export type Stored = Pick<SandboxRow, "teamId" | "memoryMib" | "vcpus" | "hostId" | "storeId" | "moveClass">;

/** The hosts this control plane knows, and which of them takes a new sandbox. */
export class Fleet {
  #members = new Map<string, Member>();
  #rows: readonly LoadedHost[] = [];
  readonly #templates = new Map<string, { list: hostagent.Template[]; until: number }>();
  /** Questions about templates under way. */
  readonly #asked = new Map<string, Promise<hostagent.Template[]>>();
  /** Sandboxes whose change was given up, by incarnation. */
  readonly #givenUp = new Map<string, number>();
  #turn = 0;
  #renewedAt = Number.NEGATIVE_INFINITY;
  /** Called when a host is asked for that is not known: another replica may just have met it. */
  onUnknown: () => void = () => {};
  /** Called with what a host tells about its machine. */
  onFacts: (id: string, facts: hostagent.GetHostResponse) => void = () => {};

  constructor(readonly strategy: Strategy = "least-loaded") {}

  /** Takes over the registry as it is now. */
  know(members: readonly Member[]): void {
    this.#members = new Map(members.map((member) => [member.host.id, member]));
    this.#rows = members.map(({ row }) => row);
  }

  /** Takes over what is reserved of each host by now; hosts that are not named keep what is known. */
  weigh(loads: ReadonlyMap<string, Load>): void {
    for (const row of this.#rows) row.load = loads.get(row.id) ?? row.load;
  }

  /** Every member. */
  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** The member with this id. */
  member(id: string): Member | undefined {
    return this.#members.get(id);
  }

  /** The host with this id. Throws `host_unavailable` when it is none of ours, or dials and has no line to this replica. */
  host(id: string): Host {
    const member = this.#members.get(id);
    if (member?.host.isHere()) return member.host;
    if (!member) this.onUnknown();
    throw new WrennError("host_unavailable", "The sandbox is on a host that this control plane does not reach.", {
      remedy: "Try again in a moment. If it stays so, `GET /v1/hosts` tells which hosts there are.",
      details: { host: id },
    });
  }

  #isHere = (id: string): boolean => this.#members.get(id)?.host.isHere() ?? false;

  /** Notes that nobody works on a row any more, since its host could not be asked how a change ended. */
  giveUp({ id, run }: Pick<SandboxRow, "id" | "run">): void {
    this.#givenUp.set(id, run);
  }

  /** Whether that was noted of this incarnation; it is told once. */
  takeGivenUp({ id, run }: Pick<SandboxRow, "id" | "run">): boolean {
    const is = this.#givenUp.get(id) === run;
    if (is) this.#givenUp.delete(id);
    return is;
  }

  /** Hosts for a new sandbox, best first. Throws `no_hosts_available`, and says why. */
  candidates(needs: Needs): Host[] {
    const all = this.#rows;
    const fits = ({ id }: LoadedHost) => this.#isHere(id);
    const ranked = rank(all, { ...needs, fits }, this.strategy, this.#turn++);
    if (ranked.length > 0) return ranked.map(({ id }) => this.host(id));
    throw none(all.filter(serves(all, needs.team)), { ...needs, fits });
  }

  /**
   * Hosts that can resume a sandbox from the object store, best first: where it was last may have its template, or even
   * itself, still. Throws `no_hosts_available`, and says why.
   */
  places({ teamId: team, memoryMib, vcpus, hostId, storeId, moveClass }: Stored): string[] {
    const all = this.#rows;
    const fits = (row: LoadedHost) => row.storeId === storeId && row.moveClass === moveClass && this.#isHere(row.id);
    const ranked = rank(all, { team, memoryMib, vcpus, fits }, this.strategy, this.#turn++).map(({ id }) => id);
    if (ranked.length === 0) throw noneResumes(all.filter(fits));
    return ranked.includes(hostId) ? [hostId, ...ranked.filter((id) => id !== hostId)] : ranked;
  }

  /** The templates of all hosts that are there, each name once. Throws what they do when none answers. */
  async allTemplates(): Promise<hostagent.Template[]> {
    const { members } = this;
    if (members.length === 0) throw none([], { team: "", memoryMib: 0, vcpus: 0 });
    const there = members.filter(({ row }) => row.status === "online");
    const asked = (there.length > 0 ? there : members).slice(0, askedAtOnce);
    const lists = await Promise.allSettled(asked.map(({ host }) => this.templates(host)));
    const told = lists.filter((list) => list.status === "fulfilled").map(({ value }) => value);
    if (told.length === 0) throw (lists[0] as PromiseRejectedResult).reason;
    return [...new Map(told.flat().map((template) => [template.name, template])).values()];
  }

  /** Counts a reservation that was made here, until the registry is read anew. */
  reserved(id: string, { memoryMib, vcpus }: Pick<Needs, "memoryMib" | "vcpus">): void {
    const load = this.#members.get(id)?.row.load;
    if (!load) return;
    load.memoryMib += memoryMib;
    load.vcpus += vcpus;
    load.sandboxes++;
  }

  /** Takes over what a host is wanted for, until the registry is read anew: who set it finds it in force here. */
  wanted(id: string, mode: LoadedHost["mode"]): void {
    const member = this.#members.get(id);
    if (!member) return;
    this.#members.set(id, { ...member, row: { ...member.row, mode } });
    this.#rows = this.members.map(({ row }) => row);
  }

  /** Deadline and request id of a call made for `caller`. */
  options(caller: { readonly requestId: string }, timeoutMs: number): CallOptions {
    return { timeoutMs, headers: { [headers.requestId]: caller.requestId } };
  }

  /** The templates of a host, at most a few seconds old. */
  async templates(host: Host, fresh = false): Promise<hostagent.Template[]> {
    const known = this.#templates.get(host.id);
    if (!fresh && known && known.until > Date.now()) return known.list;
    // Many creates that ask at once share one call.
    const asked = this.#asked.get(host.id) ?? this.#ask(host).finally(() => this.#asked.delete(host.id));
    this.#asked.set(host.id, asked);
    return await asked;
  }

  /** Asks a host for its templates again, but of a large fleet not one host for every create. */
  #renew(host: Host): void {
    if (performance.now() - this.#renewedAt < renewEveryMs) return;
    this.#renewedAt = performance.now();
    this.templates(host).catch(() => {}); // its watcher tells when it is away
  }

  async #ask(host: Host): Promise<hostagent.Template[]> {
    try {
      const facts = await host.rpc.getHost({}, { timeoutMs: quickMs });
      this.#templates.set(host.id, { list: facts.templates, until: Date.now() + templatesMs });
      this.onFacts(host.id, facts);
      return facts.templates;
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /**
   * Those of `hosts` that told of a template, in their order. What they told last counts, however old, so that the hosts
   * asked a moment ago are not preferred; the first one is asked again meanwhile.
   */
  async #known(hosts: readonly Host[], name: string): Promise<Host[]> {
    const unknown = hosts.filter(({ id }) => !this.#templates.has(id)).slice(0, askedAtOnce);
    if (unknown.length > 0)
      await Promise.race([Promise.allSettled(unknown.map((host) => this.templates(host))), Bun.sleep(newcomerMs)]);
    const known = hosts.filter(({ id }) => has(this.#templates.get(id)?.list, name));
    if (known.length > 0) this.#renew(known[0]!);
    return known;
  }

  /** Hosts that have a template, for a new sandbox, best first. Throws as {@link candidates} and {@link having} do. */
  async holders(needs: Needs, name: string): Promise<Host[]> {
    const some = await this.#known(this.candidates(needs), name);
    return some.length > 0 ? some : await this.having(this.candidates({ ...needs, wide: true }), name);
  }

  /** Those of `hosts` that have a template, in their order. Throws `not_found` when none has. */
  async having(hosts: readonly Host[], name: string): Promise<Host[]> {
    const known = await this.#known(hosts, name);
    if (known.length > 0) return known;
    const asked = hosts.slice(0, askedAtOnce);
    const lists = await Promise.allSettled(asked.map((host) => this.templates(host, true)));
    const found = asked.filter((_, at) => {
      const list = lists[at]!;
      return list.status === "fulfilled" && has(list.value, name);
    });
    if (found.length > 0) return found;
    const told = lists.filter((list) => list.status === "fulfilled").map(({ value }) => value);
    if (told.length === 0) throw (lists[0] as PromiseRejectedResult).reason;
    const names = [...new Set(told.flat().map((template) => template.name))];
    throw new WrennError("not_found", `There is no template "${name}".`, {
      remedy: remedyForTemplate(name, names),
      details: { template: name },
    });
  }
}

const has = (list: readonly hostagent.Template[] | undefined, name: string) =>
  list?.some((template) => template.name === name) ?? false;

/** Why no host takes a sandbox: there is none, none is there, none is in the zone, or all are full. */
function none(mine: readonly LoadedHost[], { zone, memoryMib, fits = () => true }: Needs): WrennError {
  const refuse = (message: string, remedy: string) => new WrennError("no_hosts_available", message, { remedy });
  if (mine.length === 0) return refuse("There is no host.", "Start wrenn-agent on a machine.");
  const online = mine.filter((host) => host.status === "online" && fits(host));
  if (online.length === 0) return refuse("No host can be reached.", "Check that wrenn-agent runs on them; try again.");
  const active = online.filter(({ mode }) => mode === "active");
  if (active.length === 0)
    return refuse("Every host is kept from taking new sandboxes.", "Uncordon one with POST /v1/hosts/{id}/uncordon.");
  if (zone !== undefined && !mine.some((host) => host.zone === zone))
    return new WrennError("invalid_request", `No host is in the zone "${zone}".`, {
      remedy: "Leave the zone out, or add a host there.",
      details: { field: "availability_zone" },
    });
  if (zone !== undefined && !active.some((host) => host.zone === zone))
    return refuse(`No host of the zone "${zone}" takes sandboxes now.`, "Leave the zone out, or try again later.");
  return full(memoryMib);
}

/** Why no host resumes what is in the object store. */
const noneResumes = (fitting: readonly LoadedHost[]): WrennError =>
  new WrennError(
    "no_hosts_available",
    fitting.length === 0
      ? "The sandbox is in an object store, and no host that reaches it can run it."
      : "No host that can resume the sandbox takes sandboxes now.",
    {
      remedy:
        fitting.length === 0
          ? "Start a host with the same WRENN_STORE, VMM, processor and wrenn-agent version; the sandbox is kept."
          : "Check that wrenn-agent runs on them, or uncordon one; the sandbox is kept.",
    },
  );

/** The error when every host has its memory reserved. */
export const full = (memoryMib: number): WrennError =>
  new WrennError("no_hosts_available", `No host has ${memoryMib || 512} MiB of memory that is not reserved.`, {
    remedy: "Pause or delete sandboxes, add a host, or raise WRENN_MEMORY_OVERCOMMIT.",
  });
