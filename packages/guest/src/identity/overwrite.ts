import { closeSync, fstatSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Gives a small file a new text; makes it, and its folder, where it is missing. One of the same length is written in place: cutting it first would make the file system
 * free and allocate its block again, most of what an identity costs an emulated guest.
 */
export function overwrite(file: string, text: string, mode = 0o644): void {
  const bytes = Buffer.from(text);
  const fd = openIfThere(file);
  const hasRoom = fd !== undefined && fstatSync(fd).size === bytes.length;
  if (fd !== undefined) {
    if (hasRoom) writeSync(fd, bytes, 0, bytes.length, 0);
    closeSync(fd);
  } else mkdirSync(dirname(file), { recursive: true });
  if (!hasRoom) writeFileSync(file, bytes, { mode });
}

function openIfThere(file: string): number | undefined {
  try {
    return openSync(file, "r+");
  } catch {
    return undefined; // it is missing, or cannot be opened for a reason that writing it names
  }
}
