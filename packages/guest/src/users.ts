import { readFileSync, statSync } from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import { WrennError } from "@wrenn/contract/core";

/** An account of the guest, as `/etc/passwd` and `/etc/group` have it. */
export type User = {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  /** Groups besides `gid`. */
  readonly groups: readonly number[];
};

type Table = { stamp: string; byName: Map<string, User>; byUid: Map<number, User>; groupNames: Map<number, string> };

const files = ["/etc/passwd", "/etc/group"] as const;

const stampOf = () =>
  files
    .map((file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return stat ? `${stat.ino}:${stat.mtimeMs}:${stat.size}` : "none";
    })
    .join();

const rows = (file: string) => {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line && !line.startsWith("#"))
      .map((line) => line.split(":"));
  } catch {
    return []; // an image without the file still has root, by number
  }
};

function load(stamp: string): Table {
  const table: Table = { stamp, byName: new Map(), byUid: new Map(), groupNames: new Map() };
  const memberships = new Map<string, number[]>();
  for (const [name, , gid, members] of rows(files[1])) {
    table.groupNames.set(Number(gid), name!);
    for (const member of members?.split(",") ?? [])
      if (member) memberships.set(member, [...(memberships.get(member) ?? []), Number(gid)]);
  }
  for (const [name, , uid, gid, , home] of rows(files[0])) {
    const groups = (memberships.get(name!) ?? []).filter((group) => group !== Number(gid));
    const user = { name: name!, uid: Number(uid), gid: Number(gid), home: home || "/", groups };
    table.byName.set(user.name, user);
    if (!table.byUid.has(user.uid)) table.byUid.set(user.uid, user);
  }
  return table;
}

let cached: Table | undefined;

/** Accounts change rarely and are asked for with every request: they are read again only when a file changed. */
function accounts(): Table {
  const stamp = stampOf();
  if (cached?.stamp !== stamp) cached = load(stamp);
  return cached;
}

/** The account `name`; throws `unauthorized` with the text clients of the E2B agent expect. */
export function findUser(name: string): User {
  const user = accounts().byName.get(name);
  if (user) return user;
  throw new WrennError("unauthorized", `invalid username: '${name}'`, {
    remedy: "Name a user of the sandbox's image, such as root.",
    details: { user: name },
  });
}

/** The account the agent runs as. */
export function ownUser(): User {
  const uid = process.getuid?.() ?? 0;
  const known = accounts().byUid.get(uid);
  if (known) return known;
  const gid = process.getgid?.() ?? uid;
  return { name: uid === 0 ? "root" : String(uid), uid, gid, home: process.env.HOME || "/", groups: [] };
}

/** Name of a uid, or the number as text. */
export const userName = (uid: number): string => accounts().byUid.get(uid)?.name ?? String(uid);

/** Name of a gid, or the number as text. */
export const groupName = (gid: number): string => accounts().groupNames.get(gid) ?? String(gid);

/**
 * A path as `user` means it: empty is `fallback` (the default working directory), `~` and relative paths start at the
 * home directory. The result is absolute and normal. Throws `invalid_request`.
 */
export function resolvePath(path: string, user: User, fallback = ""): string {
  const wanted = path || fallback;
  if (wanted.includes("\0"))
    throw new WrennError("invalid_request", "a path cannot hold a NUL byte", { remedy: "Remove it from the path." });
  const expanded = wanted === "~" || wanted.startsWith("~/") ? user.home + wanted.slice(1) : wanted;
  if (expanded.startsWith("~"))
    throw new WrennError("invalid_request", `cannot expand the home directory of another user in '${path}'`, {
      remedy: "Give the absolute path.",
    });
  const absolute = isAbsolute(expanded) ? normalize(expanded) : join(user.home, expanded);
  return absolute.length > 1 && absolute.endsWith("/") ? absolute.slice(0, -1) : absolute;
}
