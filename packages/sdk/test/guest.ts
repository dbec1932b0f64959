import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The real guest agent as a process of its own, outside a virtual machine: its programs and files are those of this machine. */
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
  const program = join(import.meta.dir, "../../guest/src/main.ts");
  const flags = ["--port", "0", "--host", "127.0.0.1", "--isnotfc"];
  const child = Bun.spawn([process.execPath, program, ...flags], { stdout: "pipe", stderr: "inherit" });
  const { value: line } = await child.stdout.getReader().read();
  const { address } = JSON.parse(new TextDecoder().decode(line)) as { address: string };
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
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      await rm(home, { recursive: true, force: true });
    },
  };
}
