import type { SQL } from "bun";

/** A replica says that it is there every few seconds; one that was not heard for this long has ended. */
const lifeSec = 40;

/** Which control planes there are on this database. */
export class ReplicaStore {
  constructor(readonly sql: SQL) {}

  /** Notes that a replica is there, and answers all that are. */
  async note(id: string): Promise<string[]> {
    await this.sql`insert into replicas (id) values (${id}) on conflict (id) do update set seen_at = now()`;
    await this.sql`delete from replicas where seen_at < now() - ${lifeSec} * interval '1 second'`;
    const rows: { id: string }[] = await this.sql`select id from replicas order by id`;
    return rows.map((row) => row.id);
  }

  /** Takes a replica that ends off the list. */
  async forget(id: string): Promise<void> {
    await this.sql`delete from replicas where id = ${id}`;
  }
}
