import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A guest agent that can change nothing of this machine; disposal ends it and its processes. */
export type ConfinedGuest = AsyncDisposable & { address: string };

/**
 * Starts the guest agent under bubblewrap: this machine's files are there to be read, and an empty folder is its home.
 * It is for requests that nobody has read before they are sent: a made-up path may name anything, to be written or removed.
 */
export async function startConfinedGuest(): Promise<ConfinedGuest> {
  const home = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  const program = join(import.meta.dir, "../../../guest/src/main.ts");
  const child = Bun.spawn(
    [
      ...["bwrap", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", home, home],
      ...["--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--die-with-parent", "--setenv", "HOME", home],
      ...[process.execPath, program, "--port", "0", "--host", "127.0.0.1", "--isnotfc"],
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  const { value: line } = await child.stdout.getReader().read();
  const { address } = JSON.parse(new TextDecoder().decode(line)) as { address: string };
  return {
    address,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      await rm(home, { recursive: true, force: true });
    },
  };
}
