import type { SQL } from "bun";

/** The channel on which the database tells that somebody's access ended; the migration's triggers name it too. */
const channel = "wrenn_access";

/** Calls `forget` whenever somebody's access has ended on any replica, or such a message may have been missed. */
export async function listenForAccess(client: SQL, forget: () => void): Promise<AsyncDisposable> {
  return await client.listen(channel, forget, forget);
}
