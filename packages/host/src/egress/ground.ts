import { mkdir, rm } from "node:fs/promises";
import type { Logger } from "pino";
import type { GateGround } from "./gate.ts";
import { Resolver } from "./resolver.ts";

/** What gates stand on, for the agent with the data folder `dir`; sockets of a former one go. */
export async function openGround(dir: string, nameservers: readonly string[], log: Logger): Promise<GateGround> {
  const sockets = `${dir}/egress`;
  await rm(sockets, { recursive: true, force: true });
  await mkdir(sockets, { recursive: true, mode: 0o700 });
  return { resolver: new Resolver(nameservers), nameservers, dir: sockets, log };
}
