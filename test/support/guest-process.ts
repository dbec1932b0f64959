import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The real guest agent as a process of its own, outside a virtual machine; disposal ends it and removes its home. */
export type GuestProcess = AsyncDisposable & {
  address: string;
  /** An empty folder. */
  home: string;
};

const program = join(import.meta.dir, "../../packages/guest/src/main.ts");

/** Starts the agent on a free port of this machine. `under` is a program to start it with, and its arguments. */
export async function startGuestProcess(under: (home: string) => readonly string[] = () => []): Promise<GuestProcess> {
  const home = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  const flags = ["--port", "0", "--host", "127.0.0.1", "--isnotfc"];
  const command = [...under(home), process.execPath, program, ...flags];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const { value: line } = await child.stdout.getReader().read();
  const { address } = JSON.parse(new TextDecoder().decode(line)) as { address: string };
  return {
    address,
    home,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      await rm(home, { recursive: true, force: true });
    },
  };
}
