import type { GuestAgent } from "./guest-agent.ts";
import type { Image } from "./images.ts";

/** An access token of a guest's agent, known to this host alone. */
export const randomToken = (): string => Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");

/**
 * Who a machine is while it rehearses. The texts are as long as the real ones: the guest then overwrites its files in
 * place, which is what it is to be practised in.
 */
const nobody = {
  sandboxId: "0".repeat(25),
  machineId: "0".repeat(32),
  hostname: `wrenn-${"0".repeat(8)}`,
  templateId: "template",
  rehearsal: true,
} as const;

/** How a machine rehearses. `token` is its agent's meanwhile; whoever gives the machine its identity presents it. */
export type Rehearsal = {
  /** Whose user, folder and environment a command has: a locale, for one, is more files to read. */
  readonly image: Pick<Image, "defaultUser" | "defaultWorkdir" | "env">;
  readonly token: string;
  readonly rounds: number;
  /** Somebody wants the machine now: it stops after the step under way. */
  readonly isWanted?: () => boolean;
};

/**
 * Has a guest do what callers do first: take an identity, run a login shell, take a file, give it and list it. In a
 * template it leaves the agent's code ready and the files it reads in the guest's cache, for every sandbox to come; in a
 * machine that waits for its sandbox, under emulation, also the translated code. The guest remembers none of it when it
 * gets its identity.
 */
export async function rehearse(agent: GuestAgent, { image, token, rounds, isWanted }: Rehearsal): Promise<void> {
  const { defaultUser: user, defaultWorkdir, env } = image;
  const identity = { ...nobody, accessToken: token, defaultUser: user, defaultWorkdir };
  const shell = ["-l", "-c", "echo ready; echo steady >&2"];
  const client = { token, cwd: "", timeoutMs: 60_000 }; // a deadline, as clients set one
  const steps: (() => Promise<unknown>)[] = [
    () => agent.identify({ ...identity, envVars: { ...env, WRENN_SANDBOX: "true" } }, token),
    () => agent.run("/bin/bash", shell, { ...client, user, binary: true }),
    () => agent.run("/bin/bash", shell, { ...client, user: "" }),
    () => agent.tool("true", [], { token, user }),
    () => agent.tryFile("/tmp/.wrenn-rehearsal", { token, user }),
  ];
  for (let round = 0; round < rounds; round++)
    for (const step of steps) {
      if (isWanted?.()) return;
      await step();
    }
  await agent.tool("sync", [], { token }); // what was written is on the disk, and not on its way there when it is used
}
