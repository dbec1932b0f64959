import { type GuestProcess, startGuestProcess } from "../../../test/support/guest-process.ts";

/** A guest agent whose programs and files are those of this machine, and what it was asked. */
export type Guest = Pick<GuestProcess, "home" | typeof Symbol.asyncDispose> & {
  fetch: (request: Request) => Promise<Response>;
  /** Headers of each call, by its last path segment. */
  calls: { name: string; headers: Headers }[];
};

/** Starts the agent; its `home` is for what a test writes. */
export async function startGuest(): Promise<Guest> {
  const agent = await startGuestProcess();
  const { address, home } = agent;
  // Login shells read the profile of this folder: none, in place of that of whoever runs the tests.
  await fetch(`${address}/init`, { method: "POST", body: JSON.stringify({ envVars: { HOME: home } }) });
  const calls: Guest["calls"] = [];
  return {
    home,
    calls,
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      calls.push({ name: pathname.split("/").at(-1) ?? "", headers: new Headers(request.headers) });
      const { method, headers, body, signal } = request;
      const init = { method, headers, body, signal, redirect: "manual", decompress: false } as const;
      return fetch(address + pathname + search, init);
    },
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
}
