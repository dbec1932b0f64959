import type { hostagent } from "@wrenn/contract";
import type { SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import { reflect } from "./reflect.ts";

/** A row that loses this many races in a row is being changed all the time; its next report will bring it up to date. */
const maxTries = 10;

/**
 * Whose report it is; the row as it was before, if that is known; and, when the report answers a question asked after the
 * row was read, that row: see {@link reflect}.
 */
type Origin = { host: string; seen?: SandboxRow; asked?: SandboxRow };

/** Reports on their way into a store: a call's answer comes by the stream of changes too, and at the same time. */
const underWay = new WeakMap<SandboxStore, Map<string, Promise<SandboxRow | undefined>>>();

/**
 * Brings what a host says about a sandbox into its row, whoever heard it: the answer of a call or the stream of changes.
 * Answers the row as it is afterwards, `undefined` when there is none. Only the host that the row names has a say in it.
 */
export async function record(
  store: SandboxStore,
  report: hostagent.Sandbox,
  origin: Origin,
): Promise<SandboxRow | undefined> {
  if (origin.asked) return await bring(store, report, origin);
  const all = underWay.get(store) ?? new Map<string, Promise<SandboxRow | undefined>>();
  underWay.set(store, all);
  const key = `${origin.host} ${report.id} ${report.run} ${report.version}`;
  const known = all.get(key);
  if (known) return await known;
  const work = bring(store, report, origin).finally(() => all.delete(key));
  all.set(key, work);
  return await work;
}

async function bring(
  store: SandboxStore,
  report: hostagent.Sandbox,
  { host, seen, asked }: Origin,
): Promise<SandboxRow | undefined> {
  let row = asked ?? seen ?? (await store.find(report.id));
  for (let tries = 0; row?.hostId === host && tries < maxTries; tries++) {
    const told = reflect(row, report, asked !== undefined && row === asked);
    if (!told && row !== seen) return row;
    const written = told && (await store.report({ seen: row, told }));
    if (written) return written;
    row = await store.find(report.id);
  }
  return row;
}
