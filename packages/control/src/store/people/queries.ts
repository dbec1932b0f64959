import type { Database } from "../database.ts";

/** What queries run on: the pool, or a transaction. */
export type Queries = Pick<
  Database,
  "select" | "selectDistinct" | "insert" | "update" | "delete" | "execute" | "transaction"
>;
