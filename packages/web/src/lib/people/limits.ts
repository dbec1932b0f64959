import type { QuotaLimits } from "#lib/api/types.ts";

/** Limits as the server takes them: an empty field is none. */
export const cleanLimits = (limits: QuotaLimits): QuotaLimits =>
  Object.fromEntries(Object.entries(limits).filter(([, value]) => typeof value === "number" && !Number.isNaN(value)));
