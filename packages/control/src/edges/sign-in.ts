import { type rest, WrennError } from "@wrenn/contract";
import { type Access, needScopes } from "../services/access.ts";
import type { Caller } from "../services/caller.ts";
import type { Socket } from "./socket.ts";

/** What a WebSocket needs of who opens it, and how long that may take. */
export type Terms = { requestId: string; withinMs: number; scopes: rest.Scope[] };

/** Waits for the first frame of a WebSocket that showed no credentials, and answers how to learn whose token it holds. */
export async function signIn(socket: Socket, access: Access, terms: Terms): Promise<() => Promise<Caller>> {
  const timer = setTimeout(() => void socket.fail(unauthenticated(), true), terms.withinMs);
  try {
    const frame = await socket.next().catch(() => undefined);
    if (frame?.type !== "auth") throw unauthenticated();
    const { token } = frame;
    const open = async () => {
      const caller = await access.byToken(token, terms.requestId).catch((cause) => {
        throw cause instanceof WrennError && cause.code === "unauthorized" ? unauthenticated(cause) : cause;
      });
      needScopes(caller, terms.scopes);
      return caller;
    };
    await open();
    return open;
  } finally {
    clearTimeout(timer);
  }
}

/** What such a WebSocket is told that shows nothing, or the wrong thing. */
export const unauthenticated = (cause?: unknown): WrennError =>
  new WrennError("unauthorized", "authentication failed", { cause });
