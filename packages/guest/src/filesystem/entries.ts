import { lstatSync, readdirSync, readlinkSync, realpathSync, type Stats, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { filesystem as wire } from "@wrenn/contract/wire";
import { readMetadata } from "../files/xattr.ts";
import { groupName, userName } from "../users.ts";

/** An entry as the wire has it. */
export type Entry = MessageInitShape<typeof wire.EntryInfoSchema>;

/** Describes what stands at the absolute `path`, without following a link at its end. Throws Node's system errors. */
export function entryAt(path: string): Entry {
  return describe(path, lstatSync(path));
}

function describe(path: string, own: Stats): Entry {
  const link = own.isSymbolicLink() ? followed(path) : undefined;
  const shown = link ? link.stat : own;
  return {
    name: basename(path) || "/",
    path,
    type: shown ? typeOf(shown) : wire.FileType.UNSPECIFIED,
    size: BigInt(own.size),
    mode: (shown ?? own).mode & 0o7777,
    permissions: permissions(own),
    owner: userName(own.uid),
    group: groupName(own.gid),
    modifiedTime: timestamp(own.mtimeMs),
    isSymlink: link !== undefined,
    metadata: link ? {} : readMetadata(path),
    ...(link ? { symlinkTarget: link.target } : {}),
  };
}

function followed(path: string): { target: string; stat: Stats | undefined } {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat) return { target: realpathSync(path), stat };
  return { target: resolve(dirname(path), readlinkSync(path)), stat: undefined };
}

function typeOf(stat: Stats): wire.FileType {
  if (stat.isFile()) return wire.FileType.FILE;
  if (stat.isDirectory()) return wire.FileType.DIRECTORY;
  return wire.FileType.UNSPECIFIED;
}

function timestamp(ms: number) {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) % 1_000_000_000 };
}

const format = { mask: 0o170000, fifo: 0o010000, char: 0o020000, block: 0o060000, socket: 0o140000 };

/** The mode as Go's `fs.FileMode` prints it, which is what clients of both older agents show: `-rw-r--r--`, `Lrwxrwxrwx`. */
function permissions(stat: Stats): string {
  const kind = stat.mode & format.mask;
  const letters =
    (stat.isDirectory() ? "d" : "") +
    (stat.isSymbolicLink() ? "L" : "") +
    (kind === format.block ? "D" : "") +
    (kind === format.fifo ? "p" : "") +
    (kind === format.socket ? "S" : "") +
    (stat.mode & 0o4000 ? "u" : "") +
    (stat.mode & 0o2000 ? "g" : "") +
    (kind === format.char ? "Dc" : "") +
    (stat.mode & 0o1000 ? "t" : "");
  let bits = "";
  for (let bit = 8; bit >= 0; bit--) bits += stat.mode & (1 << bit) ? "rwx"[(8 - bit) % 3] : "-";
  return (letters || "-") + bits;
}

/** Entries described between two looks at the event loop: a folder of 100,000 must not silence every other request. */
const entriesPerTurn = 500;

/**
 * What is below the directory `root`, to `depth` levels, in lexical order, parents before their children. Links are
 * listed, not followed; what disappears meanwhile is left out.
 */
export async function listBelow(root: string, depth: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  const visit = async (folder: string, level: number): Promise<void> => {
    for (const name of namesIn(folder, level > 1)) {
      const path = join(folder, name);
      let stat: Stats;
      try {
        stat = lstatSync(path);
        entries.push(describe(path, stat));
      } catch {
        continue;
      }
      if (entries.length % entriesPerTurn === 0) await new Promise(setImmediate);
      if (stat.isDirectory() && level < depth) await visit(path, level + 1);
    }
  };
  await visit(root, 1);
  return entries;
}

function namesIn(folder: string, mayBeGone: boolean): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (thrown) {
    if (mayBeGone) return [];
    throw thrown;
  }
}
