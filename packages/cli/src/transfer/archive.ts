import { mkdir } from "node:fs/promises";
import type { CommandHandle, Sandbox } from "wrenn";
import { Failure } from "../output.ts";
import { Meter } from "./meter.ts";

/** A folder of a sandbox. */
export type RemoteFolder = { sandbox: Sandbox; path: string; user?: string | undefined };

/**
 * Copies a local folder's contents into a folder of the sandbox as one tar stream; missing folders are made. `names`,
 * relative to the folder, limit it to those. Files are the guest user's afterwards.
 */
export async function sendFolder(local: string, remote: RemoteFolder, names?: readonly string[]): Promise<void> {
  const what = names ? ["--no-recursion", "--null", "--verbatim-files-from", "-T", "-"] : ["."];
  const tar = localTar(["-C", local, "-cf", "-", ...what], {
    stdin: names ? new Blob([names.join("\0")]) : "ignore",
    stdout: "pipe",
  });
  const script = 'cd && mkdir -p -- "$1" && exec tar -C "$1" -xof -';
  const unpack = await inGuest(remote, script, true);
  using meter = new Meter(remote.path);
  try {
    let reads = true;
    for await (const chunk of tar.stdout as ReadableStream<Uint8Array>) {
      if (!reads) continue;
      reads = await taken(unpack.sendStdin(chunk));
      if (!reads && (await unpack.ended()).exitCode !== 0) break;
      meter.add(chunk.byteLength);
    }
    if (reads) await taken(unpack.closeStdin());
    const { exitCode, stderr } = await unpack.ended(); // a reader that ended early says why better than the broken pipe
    if (exitCode !== 0) throw failed("the sandbox", stderr);
    if ((await tar.exited) !== 0) throw failed(local, await new Response(tar.stderr).text());
  } finally {
    tar.kill();
  }
}

/** Whether the reader took it: `tar` ends at the mark in its archive, which padding and the end of the input follow. */
const taken = (sent: Promise<void>): Promise<boolean> =>
  sent.then(
    () => true,
    () => false,
  );

/**
 * Copies a folder's contents out of the sandbox into a local folder as one tar stream; missing folders are made. The
 * guest is not trusted: owners and set-uid bits are not taken over, and `tar` refuses names that lead out of the folder.
 */
export async function receiveFolder(remote: RemoteFolder, local: string): Promise<void> {
  await mkdir(local, { recursive: true });
  const tar = localTar(["-C", local, "--no-same-owner", "--no-same-permissions", "-xf", "-"], {
    stdin: "pipe",
    stdout: "ignore",
  });
  const sink = tar.stdin as Bun.FileSink;
  using meter = new Meter(local);
  const take = async (chunk: Uint8Array) => {
    sink.write(chunk);
    await sink.flush();
    meter.add(chunk.byteLength);
  };
  try {
    const pack = await inGuest(remote, 'cd && exec tar -C "$1" -cf - .', false, take);
    const { exitCode, stderr } = await pack.ended();
    await sink.end();
    if (exitCode !== 0) throw failed("the sandbox", stderr);
    if ((await tar.exited) !== 0) throw failed(local, await new Response(tar.stderr).text());
  } finally {
    tar.kill();
  }
}

type Pipes = { stdin: "pipe" | "ignore" | Blob; stdout: "pipe" | "ignore" };

function localTar(args: readonly string[], pipes: Pipes) {
  if (!Bun.which("tar")) throw new Failure("this machine has no tar", "Install it: folders travel as tar streams.");
  return Bun.spawn(["tar", ...args], { ...pipes, stderr: "pipe" });
}

/** Runs a script on the folder; from the user's home, so that paths mean what they mean for single files. */
async function inGuest(
  { sandbox, path, user }: RemoteFolder,
  script: string,
  stdin: boolean,
  onBytes?: (chunk: Uint8Array) => Promise<void>,
): Promise<CommandHandle> {
  return await sandbox.commands.exec("sh", ["-c", script, "sh", path.replace(/^~(?=\/|$)/, ".")], {
    ...{ background: true, timeoutMs: 0, user, stdin, maxOutputBytes: 64 * 1024 },
    ...(onBytes && { onOutput: ({ stream, bytes }) => (stream === "stdout" ? onBytes(bytes) : undefined) }),
  });
}

const failed = (side: string, said: string) =>
  new Failure(`tar failed in ${side}: ${said.trim().split("\n").slice(-3).join("; ") || "it said nothing"}`);
