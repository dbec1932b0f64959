import { prefixes, randomId } from "@wrenn/contract";
import { eq, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { hosts } from "./schema/index.ts";

/** Queries about hosts. */
export class HostStore {
  constructor(readonly db: Database) {}

  /** The id of the host at `address`, made when it is new. */
  async ensure(address: string): Promise<string> {
    await this.db
      .insert(hosts)
      .values({ id: prefixes.host + randomId(), address })
      .onConflictDoNothing();
    const [row] = await this.db.select({ id: hosts.id }).from(hosts).where(eq(hosts.address, address));
    return row!.id;
  }

  /** Records that the host was heard of just now, by any replica. */
  async seen(id: string): Promise<void> {
    await this.db.update(hosts).set({ lastSeenAt: sql`now()` }).where(eq(hosts.id, id));
  }
}
