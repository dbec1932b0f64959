import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { type SandboxId, WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import type { Drivers } from "../drivers/ports.ts";
import type { Sampler } from "../metrics/sampler.ts";
import { findSnapshot, type Kitchen, publish, unfinishedFolder } from "../recipes.ts";
import type { SandboxRecord, SnapshotRecord } from "../record.ts";
import { minFreeDiskMib, needDisk } from "../room.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { type Course, fetchFile, heldBytes, type StoredFile, storeFile } from "../store/files.ts";
import type { Store } from "../store/open.ts";
import { type Parcel, Shelf } from "../store/shelf.ts";
import { Vault, type VaultKey } from "../store/vault.ts";
import { MovingTemplates } from "./templates.ts";

/** Chunks that nobody needs go a while after their parcel, so that many removals at once are one sweep. */
const sweepDelayMs = 60_000;

/** Whoever asks what this host is does not wait for a store that is away. */
const storeAnswersMs = 2_000;

/** Ends the name of a layer that is being brought. */
export const partOfLayer = ".part";

/** What opens a team's part of the store, and the part that all teams have in common. */
export type Keys = { readonly team: VaultKey; readonly common: VaultKey };

/** What was sent. */
export type Sent = {
  /** Its name in the store. */
  readonly id: string;
  /** {@link moveClass} of this host. */
  readonly moveClass: string;
  readonly store: string;
  /** Bytes that it has, and those of them that the store did not have. */
  readonly bytes: number;
  readonly sentBytes: number;
};

type Whose = "team" | "common";

type Facts = {
  readonly moveClass: string;
  readonly sandbox: SandboxRecord;
  readonly snapshot: SnapshotRecord;
  /** Its disk layers, the newest first; the last lies on the template's disk. */
  readonly layers: readonly string[];
  readonly template: { readonly id: string; readonly vault: Whose };
};

/** Hosts with the same class can resume each other's sandboxes: the same VMM, processor, disks and network. */
export function moveClass({ vmm, disks, nets }: Drivers): string {
  const parts = [vmm.fingerprint, vmm.clock ?? "", disks.name, nets.name];
  return new Bun.CryptoHasher("sha256").update(parts.join("\n")).digest("hex").slice(0, 24);
}

/** Paused sandboxes on their way to the object store and back. What is sent stays here until it is destroyed. */
export class Moves implements AsyncDisposable {
  readonly #templates: MovingTemplates;
  readonly #sending = new Map<string, Promise<Sent>>();
  readonly #sweeps = new Map<string, Timer>();
  /** One at a time: sandboxes share layers, and one fills the line. */
  #bringing: Promise<unknown> = Promise.resolve();

  constructor(
    readonly sandboxes: Sandboxes,
    readonly store: Store,
    readonly log: Logger,
    /** Keeps the load of sandboxes, which goes with them. */
    readonly loads?: Pick<Sampler, "save" | "load">,
  ) {
    const { kitchen } = sandboxes;
    this.#templates = new MovingTemplates(kitchen.templates, kitchen.drivers, `${kitchen.paths.root}/templates`);
  }

  get #kitchen(): Kitchen {
    return this.sandboxes.kitchen;
  }

  /** {@link moveClass} of this host. */
  get moveClass(): string {
    return moveClass(this.#kitchen.drivers);
  }

  /** Names the store; two hosts that answer the same share it. Empty while it does not answer. */
  async storeId(): Promise<string> {
    const known = this.store.id().catch((error) => {
      this.log.warn({ error, store: this.store.objects.name }, "the object store does not answer");
      return "";
    });
    return await Promise.race([known, Bun.sleep(storeAnswersMs).then(() => "")]);
  }

  /**
   * Sends a paused sandbox, which stays here too; what is there already is not sent again. Throws `invalid_state` unless
   * it is paused, `conflict` when it was resumed or removed meanwhile, and what the store throws.
   */
  send(id: SandboxId, keys: Keys): Promise<Sent> {
    const sandbox = this.sandboxes.find(id);
    sandbox.expect("resume");
    const snapshot = findSnapshot(this.#kitchen, sandbox.record.snapshot ?? "");
    const busy =
      this.#sending.get(snapshot.id) ??
      this.#send(sandbox.record, snapshot, keys).finally(() => this.#sending.delete(snapshot.id));
    this.#sending.set(snapshot.id, busy);
    return busy;
  }

  async #send(sandbox: SandboxRecord, snapshot: SnapshotRecord, keys: Keys): Promise<Sent> {
    const stop = new AbortController();
    using _ = this.#kitchen.holds.hold(snapshot.id, () => stop.abort(moved(sandbox.id)));
    const course: Course = { signal: stop.signal, tally: { bytes: 0, sent: 0 } };
    const began = performance.now();
    const shelf = this.#shelf(keys.team);
    const template = await this.#sendTemplate(snapshot, keys, course);
    await shelf.leases.sending(stop.signal, async (lease) => {
      const layers = this.#chainOf(snapshot.layer);
      const files = await this.#storeFiles(shelf, snapshot, layers, course);
      lease.check();
      stop.signal.throwIfAborted();
      const facts: Facts = { moveClass: this.moveClass, sandbox, snapshot, layers, template };
      await shelf.put("sandboxes", snapshot.id, { facts, files }, stop.signal);
    });
    if (sandbox.snapshot !== snapshot.id) throw moved(sandbox.id); // its row is the living one
    const { bytes, sent } = course.tally;
    this.log.info({ id: sandbox.id, bytes, sent, ms: Math.round(performance.now() - began) }, "sent to the store");
    return { id: snapshot.id, moveClass: this.moveClass, store: await this.store.id(), bytes, sentBytes: sent };
  }

  async #sendTemplate(snapshot: SnapshotRecord, keys: Keys, course: Course): Promise<Facts["template"]> {
    const { image } = await this.#kitchen.templates.byKey(snapshot.templateKey);
    const vault: Whose = image.name.startsWith("oci-") ? "team" : "common"; // images of registries may be a team's own
    const shelf = this.#shelf(keys[vault]);
    const id = await shelf.leases.sending(course.signal, async (lease) => {
      const sent = await this.#templates.send(snapshot.templateKey, shelf, course);
      await shelf.refer(sent, snapshot.id);
      lease.check();
      return sent;
    });
    return { id, vault };
  }

  async #storeFiles(
    { vault }: Shelf,
    snapshot: SnapshotRecord,
    layers: readonly string[],
    course: Course,
  ): Promise<StoredFile[]> {
    const { paths } = this.#kitchen;
    const files: StoredFile[] = [];
    for (const id of layers) files.push({ ...(await storeFile(vault, paths.layer(id), course)), name: layerName(id) });
    await this.loads?.save(snapshot.sandbox);
    for (const [name, path] of pastOf(paths, snapshot.sandbox))
      if (existsSync(path)) files.push({ ...(await storeFile(vault, path, course)), name });
    for (const name of await readdir(paths.snapshot(snapshot.id)))
      files.push({
        ...(await storeFile(vault, `${paths.snapshot(snapshot.id)}/${name}`, course)),
        name: `snapshot/${name}`,
      });
    return files;
  }

  #chainOf(layer: string): string[] {
    const ids: string[] = [];
    for (let at: string | undefined = layer; at !== undefined; at = this.#kitchen.journal.layers.get(at)?.parent)
      ids.push(at);
    return ids;
  }

  /**
   * Sees to it that this host has the sandbox, paused as it was sent. Throws `conflict` for one of another class of hosts,
   * `not_found` and `internal_error` for what is missing or damaged in the store; nothing of it is left here then.
   */
  bring(id: SandboxId, parcelId: string, keys: Keys): Promise<void> {
    const work = this.#bringing.then(() => this.#bring(id, parcelId, keys));
    this.#bringing = work.catch(() => {});
    return work;
  }

  async #bring(id: SandboxId, parcelId: string, keys: Keys): Promise<void> {
    const present = this.sandboxes.list().find((record) => record.id === id);
    if (present?.state === "paused" && present.snapshot === parcelId) return; // it was never removed here
    if (present) await this.sandboxes.destroy(id, "superseded"); // of before it was sent
    const course: Course = { signal: new AbortController().signal, tally: { bytes: 0, sent: 0 } };
    const began = performance.now();
    const shelf = this.#shelf(keys.team);
    const parcel = await shelf.get<Facts>("sandboxes", parcelId);
    this.#checkFits(id, parcel);
    const { facts, files } = parcel;
    const bytes = files.reduce((sum, file) => sum + heldBytes(file), 0);
    await needDisk(this.#kitchen.paths.root, Math.ceil(bytes / 2 ** 20) + minFreeDiskMib);
    const templateKey = await this.#templates.bring(facts.template.id, this.#shelf(keys[facts.template.vault]), course);
    await this.#unpack({ shelf, facts, files, templateKey, course });
    this.log.info(
      { id, bytes: course.tally.bytes, ms: Math.round(performance.now() - began) },
      "brought from the store",
    );
  }

  #checkFits(id: SandboxId, { facts }: Parcel<Facts>): void {
    if (facts.sandbox.id !== id) throw new WrennError("invalid_request", "the parcel is another sandbox's");
    if (facts.moveClass === this.moveClass) return;
    throw new WrennError("conflict", "the sandbox was saved by another virtual machine than this host runs", {
      remedy: "Resume it on a host with the same VMM, processor, disks, network and wrenn-agent version.",
      details: { saved: facts.moveClass, here: this.moveClass },
    });
  }

  /** Layers, memory, rows: in that order, so that whatever is cut short leaves nothing that anybody stands on. */
  async #unpack({ shelf, facts, files, templateKey, course }: Unpacking): Promise<void> {
    const { journal, layers, paths } = this.#kitchen;
    const { snapshot } = facts;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => layers.collect());
    for (const [at, id] of [...facts.layers.entries()].reverse()) {
      const file = files.find(({ name }) => name === layerName(id));
      if (!file) throw new WrennError("internal_error", `the stored sandbox lacks its disk layer ${id}`);
      layers.pin(id);
      undo.defer(async () => layers.unpin(id));
      await this.#layer({ id, parent: facts.layers[at + 1], templateKey }, (path) =>
        fetchFile(shelf.vault, file, path, course),
      );
    }
    await using kept = new AsyncDisposableStack();
    const unfinished = await unfinishedFolder(snapshot.id, paths, kept);
    for (const file of files.filter(({ name }) => name.startsWith("snapshot/")))
      await fetchFile(shelf.vault, file, `${unfinished}/${file.name.slice("snapshot/".length)}`, course);
    for (const [named, path] of pastOf(paths, facts.sandbox.id)) {
      const file = files.find(({ name }) => name === named);
      if (file) await this.#bringPast(path, (part) => fetchFile(shelf.vault, file, part, course));
    }
    await publish(snapshot.id, paths);
    journal.snapshots.put({ ...snapshot, kind: "pause", templateKey });
    kept.move();
    const held = { state: "paused", machine: undefined, nextLayer: undefined, layer: snapshot.layer } as const;
    this.sandboxes.register({ ...facts.sandbox, ...held, snapshot: snapshot.id, templateKey });
    await this.loads?.load(facts.sandbox.id);
  }

  async #bringPast(path: string, fetch: (part: string) => Promise<void>): Promise<void> {
    const part = `${path}${partOfLayer}`;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await rm(part, { force: true });
    await fetch(part);
    await rename(part, path);
  }

  /** A layer that is here already is the same: one that others lie on is never written to. */
  async #layer(
    row: { id: string; parent: string | undefined; templateKey: string },
    fetch: (path: string) => Promise<void>,
  ): Promise<void> {
    const { journal, layers, paths } = this.#kitchen;
    const path = paths.layer(row.id);
    if (journal.layers.get(row.id) && existsSync(path)) return;
    journal.layers.put(row);
    await rm(`${path}${partOfLayer}`, { force: true });
    try {
      await fetch(`${path}${partOfLayer}`);
      await rename(`${path}${partOfLayer}`, path);
    } finally {
      await rm(`${path}${partOfLayer}`, { force: true });
    }
    await layers.rebase(row.id);
  }

  /** Removes what was sent; the chunks that nobody else needs go some time later. Absent is fine. */
  async discard(ids: readonly string[], keys: Keys): Promise<void> {
    const shelf = this.#shelf(keys.team);
    for (const id of ids) {
      const parcel = await shelf.get<Facts>("sandboxes", id).catch(() => undefined); // damaged ones go too
      await shelf.remove("sandboxes", id);
      if (parcel) await this.#shelf(keys[parcel.facts.template.vault]).unrefer(parcel.facts.template.id, id);
    }
    for (const key of [keys.team, keys.common]) this.#sweepSoon(key);
  }

  #sweepSoon(key: VaultKey): void {
    if (this.#sweeps.has(key.name)) return;
    const sweep = async () => {
      this.#sweeps.delete(key.name);
      if (!(await this.#shelf(key).sweep())) this.#sweepSoon(key); // somebody sends
    };
    const timer = setTimeout(
      () => void sweep().catch((error) => this.log.warn({ error }, "the store was not swept")),
      sweepDelayMs,
    );
    timer.unref();
    this.#sweeps.set(key.name, timer);
  }

  #shelf(key: VaultKey): Shelf {
    return new Shelf(new Vault(this.store.objects, key));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#sweeps.values()) clearTimeout(timer);
    await this.#bringing;
    await Promise.allSettled(this.#sending.values());
  }
}

type Unpacking = {
  shelf: Shelf;
  facts: Facts;
  files: readonly StoredFile[];
  templateKey: string;
  course: Course;
};

/** What is kept of a sandbox's past, by its name in a parcel: log and load. */
const pastOf = (paths: Kitchen["paths"], id: string): [name: string, path: string][] => [
  ["log", paths.log(id)],
  ["load", paths.load(id)],
];
const layerName = (id: string): string => `layers/${id}`;

const moved = (id: string) =>
  new WrennError("conflict", "the sandbox was resumed or removed while it was sent to the store", { details: { id } });
