import type { Logger } from "pino";
import { defaultDir, type HostOptions, machineSize } from "../config.ts";
import type { Drivers } from "../drivers/ports.ts";
import { type HostAgent, start } from "../index.ts";
import { Heart } from "./heart.ts";
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
  const heart = new Heart(dir, kept, { onRenewed: agent.renew, onDeleted }, log);
  return {
    ...agent,
    stop: (how) => {
      heart[Symbol.dispose]();
      return agent.stop(how);
    },
  };
}
