import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "@wrenn/guest";

/** The real guest agent, outside a virtual machine: its programs and files are those of this machine. */
export type Guest = AsyncDisposable & {
  fetch: (request: Request) => Promise<Response>;
  /** An empty folder for what a test writes. */
  home: string;
  /** Headers of each call, by its last path segment. */
  calls: { name: string; headers: Headers }[];
};

/** Starts the agent on a free port; disposal ends its programs and removes the folder. */
export async function startGuest(): Promise<Guest> {
  const home = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  const agent = start({ port: 0, host: "127.0.0.1", isNotVm: true });
  // Login shells read the profile of this folder: none, in place of that of whoever runs the tests.
  await fetch(`${agent.address}/init`, { method: "POST", body: JSON.stringify({ envVars: { HOME: home } }) });
  const calls: Guest["calls"] = [];
  return {
    home,
    calls,
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      calls.push({ name: pathname.split("/").at(-1) ?? "", headers: new Headers(request.headers) });
      const { method, headers, body, signal } = request;
      const init = { method, headers, body, signal, redirect: "manual", decompress: false } as const;
      return fetch(agent.address + pathname + search, init);
    },
    async [Symbol.asyncDispose]() {
      await agent.stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
