import { and, eq, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { buildFiles } from "../schema/index.ts";

/** Small enough that a reader and a writer hold little, large enough that an archive is few rows. */
const partBytes = 1024 * 1024;

/** Uploaded archives, in the database: every replica can build from what any of them was sent. */
export class BuildFiles {
  constructor(readonly db: Database) {}

  /** Size of an archive that is there whole; looking counts as use. */
  async has(team: string, hash: string): Promise<number | undefined> {
    const isIt = and(eq(buildFiles.teamId, team), eq(buildFiles.hash, hash));
    const [row] = await this.db.update(buildFiles).set({ usedAt: sql`now()` }).where(isIt).returning();
    return row?.sizeBytes;
  }

  /** Stores an archive, replacing one of the same name; all or nothing. `check` sees every part, `last` the end; both may throw. */
  async put(
    file: { team: string; hash: string },
    body: ReadableStream<Uint8Array>,
    check: (part: Uint8Array) => void,
    last: () => void,
  ): Promise<number> {
    const { team, hash } = file;
    return await this.db.transaction(async (transaction) => {
      await transaction.delete(buildFiles).where(and(eq(buildFiles.teamId, team), eq(buildFiles.hash, hash)));
      let [size, part] = [0, 0];
      for await (const data of parts(body)) {
        check(data);
        await transaction.execute(
          sql`insert into build_file_parts (team_id, hash, part, data) values (${team}, ${hash}, ${part++}, ${Buffer.from(data)})
            on conflict (team_id, hash, part) do update set data = excluded.data`,
        );
        size += data.length;
      }
      last();
      await transaction.insert(buildFiles).values({ teamId: team, hash, sizeBytes: size }).onConflictDoNothing();
      return size;
    });
  }

  /** An archive's bytes. */
  async *read(team: string, hash: string): AsyncGenerator<Uint8Array> {
    for (let part = 0; ; part++) {
      const rows = await this.db.execute<{ data: Uint8Array }>(
        sql`select data from build_file_parts where team_id = ${team} and hash = ${hash} and part = ${part}`,
      );
      const data = (rows as unknown as { data: Uint8Array }[])[0]?.data;
      if (data === undefined) return;
      yield data;
    }
  }

  /** Removes archives that nobody used for `days`. */
  async collect(days: number): Promise<void> {
    await this.db.delete(buildFiles).where(sql`${buildFiles.usedAt} < now() - ${days} * interval '1 day'`);
  }
}

async function* parts(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; ) {
      const piece = chunk.subarray(at, at + partBytes - size);
      held.push(piece);
      size += piece.length;
      at += piece.length;
      if (size < partBytes) continue;
      yield Buffer.concat(held);
      [held, size] = [[], 0];
    }
  }
  if (size > 0) yield Buffer.concat(held);
}
