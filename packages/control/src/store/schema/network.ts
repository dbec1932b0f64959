import type { rest } from "@wrenn/contract";
import { customType } from "drizzle-orm/pg-core";

/** A `jsonb` of a network policy. */
export const networkPolicy = customType<{ data: rest.NetworkPolicy; driverData: rest.NetworkPolicy }>({
  dataType: () => "jsonb",
});
