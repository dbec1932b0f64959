import type { SandboxId } from "@wrenn/contract";
import { and, eq } from "drizzle-orm";
import type { Database } from "./database.ts";
import { publicPorts } from "./schema/index.ts";

/** Which ports of which sandboxes anybody may reach. */
export class PortStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** The public ports of a sandbox. */
  async publicOf(id: SandboxId): Promise<Set<number>> {
    const rows = await this.#db.select().from(publicPorts).where(eq(publicPorts.sandboxId, id));
    return new Set(rows.map(({ port }) => port));
  }

  /** Makes a port public or private. */
  async set(id: SandboxId, port: number, isPublic: boolean): Promise<void> {
    if (isPublic) await this.#db.insert(publicPorts).values({ sandboxId: id, port }).onConflictDoNothing();
    else await this.#db.delete(publicPorts).where(and(eq(publicPorts.sandboxId, id), eq(publicPorts.port, port)));
  }
}
