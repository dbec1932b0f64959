import type { hostagent } from "@wrenn/contract";
import type { SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import { reflect } from "./reflect.ts";

/** A row that loses this many races in a row is being changed all the time; its next report will bring it up to date. */
const maxTries = 10;

/** Whose report it is, and, when it answers a question asked after the row was read, that row: see {@link reflect}. */
type Origin = { host: string; asked?: SandboxRow };

/**
 * Brings what a host says about a sandbox into its row, whoever heard it: the answer of a call or the stream of changes.
 * Answers the row as it is afterwards, `undefined` when there is none. Only the host that the row names has a say in it.
 */
export async function record(
  store: SandboxStore,
  report: hostagent.Sandbox,
  { host, asked }: Origin,
): Promise<SandboxRow | undefined> {
  let row = asked ?? (await store.find(report.id));
  for (let tries = 0; row?.hostId === host && tries < maxTries; tries++) {
    const change = reflect(row, report, asked !== undefined && row === asked);
    if (!change) return row;
    const written = await store.write({ ...row }, change);
    if (written) return written;
    row = await store.find(report.id);
  }
  return row;
}
