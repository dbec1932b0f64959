import type { SQL } from "bun";

/** The channel on which the database tells that somebody's access ended; the migration's triggers name it too. */
const channel = "wrenn_access";

/** The channel on which the audit log tells what kind of thing was changed in which team. */
export const deedsChannel = "wrenn_deeds";

/** Calls `forget` whenever somebody's access has ended on any replica, or such a message may have been missed. */
export async function listenForAccess(client: SQL, forget: () => void): Promise<AsyncDisposable> {
  return await client.listen(channel, forget, forget);
}

/** Calls `heard` with a team and the kind of resource whenever the audit log of any replica got entries of that kind. */
export async function listenForDeeds(
  client: SQL,
  heard: (team: string, resource: string) => void,
): Promise<AsyncDisposable> {
  return await client.listen(deedsChannel, (topic) => {
    const [team = "", resource = ""] = topic.split(" ");
    heard(team, resource);
  });
}
