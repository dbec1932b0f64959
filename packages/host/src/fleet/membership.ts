import { mkdir, statfs } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { HostOptions } from "../config.ts";
import { type Kept, readIdentity, register } from "./identity.ts";

/** What flags and environment say about joining a fleet. */
export type Wish = {
  register?: string | undefined;
  /** The same for a host that has no identity yet: it may stand in settings that every start reads. */
  registerOnce?: string | undefined;
  address?: string | undefined;
  /** In place of an address: the agent connects to the control plane. */
  dial?: boolean | undefined;
  url?: string | undefined;
};

type Flags = { register?: string | undefined; address?: string | undefined; dial?: boolean | undefined };

/** What flags say, and where they say nothing the environment. */
export function wishOf({ register, address, dial }: Flags, env: Readonly<Record<string, string | undefined>>): Wish {
  return {
    ...{ register, dial, url: env.WRENN_CP_URL },
    registerOnce: env.WRENN_REGISTRATION_TOKEN || undefined,
    address: address ?? (dial ? undefined : env.WRENN_HOST_ADDRESS || undefined),
  };
}

/** The flags for a program that takes over from one that serves: joining was done by then, and its token is used up. */
export function flagsToServe(flags: { dir?: string | undefined; listen?: string | undefined }): string[] {
  const { dir, listen } = flags;
  return [...(dir === undefined ? [] : ["--dir", dir]), ...(listen === undefined ? [] : ["--listen", listen])];
}

/**
 * The identity of this host in its fleet: as a former start left it, or from a registration now; `undefined` for a host
 * that shares a secret with its control plane. Throws `invalid_request` for flags that do not fit.
 */
export async function membership(
  dir: string,
  wish: Wish,
  { cpuCores, memoryMib }: { cpuCores: number; memoryMib: number },
): Promise<Kept | undefined> {
  const kept = wish.register === undefined ? await readIdentity(dir) : undefined;
  const token = wish.register ?? wish.registerOnce;
  if (kept || token === undefined) return kept;
  if (wish.dial && wish.address)
    throw bad("--dial and --address exclude each other", "A host that dials is reached over its own line.");
  if (!wish.dial && (!wish.address || !/^(\[[^\]]+\]|[^:]+):\d+$/.test(wish.address)))
    throw bad(
      "a registration needs --address HOST:PORT (or WRENN_HOST_ADDRESS), or --dial",
      "Give the address at which the control plane reaches this machine, such as 10.0.0.7:50051; --dial needs no open port.",
    );
  if (!wish.url || !URL.canParse(wish.url))
    throw bad("WRENN_CP_URL is not set", "Set it to the http(s)://HOST:PORT of the control plane.");
  await mkdir(dir, { recursive: true });
  const disk = await statfs(dir);
  const diskMib = Math.floor((disk.blocks * disk.bsize) / 2 ** 20);
  const machine = { cpuCores, memoryMib, diskMib };
  const address = wish.address ?? "";
  return await register(dir, { url: new URL(wish.url).origin, token, address, machine });
}

/**
 * What an identity decides of a host's options. It listens everywhere at the port of its address unless told otherwise;
 * one that dials listens to itself alone.
 */
export function asMember(kept: Kept, listen: string | undefined): HostOptions {
  const port = kept.address.slice(kept.address.lastIndexOf(":") + 1);
  const { cert, key, ca } = kept;
  const place = kept.address === "" ? "127.0.0.1:0" : (listen ?? `0.0.0.0:${port}`);
  return { token: kept.agentToken, credentials: { cert, key, ca }, listen: place };
}

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
