import { customType } from "drizzle-orm/pg-core";

/** A volume, by its id and the name it had, and the path at which a sandbox has it. */
export type Mount = { readonly volume: string; readonly name: string; readonly path: string };

/** A `jsonb` of mounts. */
export const mountList = customType<{ data: readonly Mount[]; driverData: readonly Mount[] }>({
  dataType: () => "jsonb",
});
