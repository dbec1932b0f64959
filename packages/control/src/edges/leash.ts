import type { MiddlewareHandler } from "hono";
import { type Access, needAdmin } from "../services/access.ts";
import type { Caller } from "../services/caller.ts";
import type { Env } from "./endpoint.ts";

/** Answers that are followed: server-sent events, and the streams of guest agents (Connect protocol, "Streaming RPCs"). */
const isFollowed = (type: string | null): boolean => /^(text\/event-stream|application\/connect\+)/.test(type ?? "");

/** Whether the sender of a request still has the access by which it was answered. */
const opening = (access: Access, request: Request, requestId: string) => async (): Promise<Caller> => {
  const caller = await access.open(request, requestId);
  if (new URL(request.url).pathname.startsWith("/v1/admin/")) needAdmin(caller);
  return caller;
};

/** Ends answers that are followed when the access of who follows them ends: at sign-out, removal from a team, or a key's end. */
export function leashed(access: Access): MiddlewareHandler<Env> {
  return async (c, next) => {
    await next();
    const { body, status, headers } = c.res;
    // Another route's answer is on the leash of the request that asked for it.
    if (!body || c.env?.admitted || !isFollowed(headers.get("content-type"))) return;
    const reader = body.getReader();
    const open = opening(access, c.req.raw, c.get("requestId"));
    const end = async () => {
      unwatch();
      await reader.cancel(); // what is being read then is the end
    };
    const unwatch = access.watch(open, () => void end());
    const followed = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await reader.read().catch((thrown) => {
          unwatch();
          throw thrown;
        });
        if (!done) return controller.enqueue(value);
        unwatch();
        controller.close();
      },
      cancel: end,
    });
    c.res = new Response(followed, { status, headers });
  };
}
