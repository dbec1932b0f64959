import type { rest } from "@wrenn/contract";
import { customType } from "drizzle-orm/pg-core";

/** What a client of the E2B dialect asked for beyond what every sandbox has. */
export type Terms = {
  /** Seconds that a wake by traffic gives it. */
  timeoutSec: number;
  /** Whether traffic wakes it when it is paused. */
  autoResume: boolean;
  /** Whether a pause by time-out keeps its memory. */
  keepMemory: boolean;
  allowInternetAccess?: boolean | undefined;
  network?: rest.e2b.Network | undefined;
  iam?: rest.e2b.Iam | undefined;
};

/** A `jsonb` of {@link Terms}. */
export const terms = customType<{ data: Terms; driverData: Terms }>({ dataType: () => "jsonb" });
