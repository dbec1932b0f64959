import type { Sandbox } from "wrenn";
import { within } from "./kinds.ts";

/** Hands the browser a file to keep. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Downloads a file. */
export async function downloadFile(sandbox: Sandbox, path: string): Promise<void> {
  save(await sandbox.files.read(path, { format: "blob" }), path.split("/").at(-1)!);
}

/** Downloads a folder as an archive, packed in the sandbox while it comes. */
export async function downloadFolder(sandbox: Sandbox, path: string): Promise<void> {
  const name = path.split("/").at(-1) || "root";
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await sandbox.commands.exec(
    "tar",
    ["-czf", "-", "-C", path === "/" ? "/" : path.slice(0, -name.length), path === "/" ? "." : name],
    {
      collect: false,
      timeoutMs: 0,
      onOutput: ({ stream, bytes }) => {
        if (stream === "stdout") parts.push(bytes.slice());
      },
    },
  );
  save(new Blob(parts, { type: "application/gzip" }), `${name}.tar.gz`);
}

/** A file that was dropped, with its path below the folder it is dropped on. */
export type Dropped = { path: string; file: File };

/** Everything in a drop, folders included. */
export async function dropped(transfer: DataTransfer): Promise<Dropped[]> {
  // Read before anything is waited for: afterwards the browser has emptied the drop.
  const files = [...transfer.files].map((file) => ({ path: file.name, file }));
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return files;
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

async function walk(entry: FileSystemEntry, folder: string): Promise<Dropped[]> {
  const path = folder ? `${folder}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Dropped[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const one of some) found.push(...(await walk(one, path)));
  }
}

/** Writes files into a folder one after the other; `onDone` counts them. */
export async function upload(
  sandbox: Sandbox,
  folder: string,
  files: readonly Dropped[],
  onDone: (count: number) => void,
) {
  let count = 0;
  for (const { path, file } of files) {
    await sandbox.files.write(within(folder, path), file);
    onDone(++count);
  }
}
