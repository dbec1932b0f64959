import { eq } from "drizzle-orm";
import type { Database } from "./database.ts";
import { settings } from "./schema/index.ts";

/** As long as the output of the hash it keys (RFC 2104, section 3). */
const secretBytes = 32;

/** A random secret that all replicas of one database share; the first that asks makes it. */
export async function sharedSecret(db: Database, name: string): Promise<Buffer> {
  const fresh = Buffer.from(crypto.getRandomValues(new Uint8Array(secretBytes))).toString("base64");
  await db.insert(settings).values({ name, value: fresh }).onConflictDoNothing();
  const [row] = await db.select().from(settings).where(eq(settings.name, name));
  return Buffer.from(row!.value, "base64");
}

/** A text that all replicas of one database share; the first that asks makes it. */
export async function sharedText(db: Database, name: string, make: () => Promise<string>): Promise<string> {
  const read = async () => (await db.select().from(settings).where(eq(settings.name, name)))[0]?.value;
  const found = await read();
  if (found !== undefined) return found;
  await db
    .insert(settings)
    .values({ name, value: await make() })
    .onConflictDoNothing();
  return (await read())!;
}
