import type { SandboxRow } from "../../store/schema/index.ts";

/** `seconds` from now. */
export const inSeconds = (seconds: number): Date => new Date(Date.now() + seconds * 1000);

/** The end of a sandbox that starts to run again: what was asked for, else what it was made with; none for one without. */
export const renewal = (row: Pick<SandboxRow, "terms">, endAt?: Date): { endAt?: Date } =>
  endAt ? { endAt } : row.terms ? { endAt: inSeconds(row.terms.timeoutSec) } : {};
