import type { Logger } from "pino";
import { defaultDir, type HostOptions, machineSize } from "../config.ts";
import type { Drivers } from "../drivers/ports.ts";
import { type HostAgent, start } from "../index.ts";
import { Dialer } from "./dialer.ts";
import { Heart } from "./heart.ts";
import type { Kept } from "./identity.ts";
import { asMember, membership, type Wish } from "./membership.ts";

/** What a member is started with beside its options. */
export type MemberGround = { log: Logger; onDeleted(): void; drivers?: Drivers | undefined };

/** Starts a host agent as what it is: a member of a fleet, which it may join now, or one that shares a secret. */
export async function startMember(options: HostOptions, wish: Wish, ground: MemberGround): Promise<HostAgent> {
  const { log, onDeleted, drivers } = ground;
  const dir = options.dir ?? defaultDir();
  const kept = await membership(dir, wish, machineSize());
  const agent = await start({ ...options, ...(kept && asMember(kept, options.listen)) }, log, drivers);
  if (!kept) return agent;
  let now = kept;
  const onRenewed = (renewed: Kept) => {
    now = renewed;
    agent.renew(renewed);
  };
  const heart = new Heart(dir, kept, { onRenewed, onDeleted }, log);
  const dialer = kept.address === "" ? new Dialer(() => now, Number(new URL(agent.address).port), log) : undefined;
  return {
    ...agent,
    stop: async (how) => {
      heart[Symbol.dispose]();
      await dialer?.[Symbol.asyncDispose]();
      await agent.stop(how);
    },
  };
}
