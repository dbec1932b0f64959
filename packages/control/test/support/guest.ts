import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "@wrenn/guest";

/** The real guest agent on a loopback port, with a folder of its own for files. */
export type TestGuest = { address: string; dir: string; stop(): Promise<void> };

/** Starts a guest agent in this process. */
export async function startGuest(): Promise<TestGuest> {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  const agent = start({ port: 0, host: "127.0.0.1", isNotVm: true });
  // Login shells of the tests read no profile of whoever runs them: it may take long, or hang.
  await fetch(`${agent.address}/init`, { method: "POST", body: JSON.stringify({ envVars: { HOME: dir } }) });
  return {
    address: agent.address,
    dir,
    async stop() {
      await agent.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
