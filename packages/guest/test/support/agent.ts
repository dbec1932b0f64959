import { afterAll, beforeAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { filesystem, processes } from "@wrenn/contract";
import { type RunningAgent, start } from "../../src/index.ts";

/** An agent of this test file, on a port of its own, and a folder that goes with it. */
export type TestAgent = {
  url: string;
  folder: string;
  processes(json?: boolean): ReturnType<typeof createClient<typeof processes.Process>>;
  files(json?: boolean): ReturnType<typeof createClient<typeof filesystem.Filesystem>>;
  transport(json: boolean): Transport;
};

/** Starts the agent before a file's tests and stops it after them. */
export function useAgent(): TestAgent {
  let running: RunningAgent;
  const agent = {
    url: "",
    folder: "",
    transport: (json: boolean) => createConnectTransport({ baseUrl: agent.url, useBinaryFormat: !json }),
    processes: (json = true) => createClient(processes.Process, agent.transport(json)),
    files: (json = true) => createClient(filesystem.Filesystem, agent.transport(json)),
  };
  beforeAll(async () => {
    running = start({ port: 0, host: "127.0.0.1", isNotVm: true });
    agent.url = running.address;
    agent.folder = mkdtempSync(join(tmpdir(), "wrenn-guest-"));
    // Login shells read no profile of whoever runs the tests: it may take long, or hang.
    await fetch(`${agent.url}/init`, { method: "POST", body: JSON.stringify({ envVars: { HOME: agent.folder } }) });
  });
  afterAll(async () => {
    await running.stop();
    rmSync(agent.folder, { recursive: true, force: true });
  });
  return agent;
}

/** Everything a finished process told. */
export type Outcome = {
  pid: number;
  stdout: string;
  stderr: string;
  pty: string;
  /** Names of the events in their order. */
  events: string[];
  end: processes.ProcessEvent_EndEvent | undefined;
};

type Responses = AsyncIterable<{ event?: processes.ProcessEvent | undefined }>;

/** Reads a stream of process events to its end. */
export async function collect(responses: Responses): Promise<Outcome> {
  const outcome: Outcome = { pid: 0, stdout: "", stderr: "", pty: "", events: [], end: undefined };
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[], pty: [] as Uint8Array[] };
  for await (const { event } of responses) {
    const inner = event?.event;
    outcome.events.push(inner?.case ?? "none");
    if (inner?.case === "start") outcome.pid = inner.value.pid;
    if (inner?.case === "end") outcome.end = inner.value;
    if (inner?.case === "data" && inner.value.output.case)
      parts[inner.value.output.case].push(inner.value.output.value);
  }
  for (const channel of ["stdout", "stderr", "pty"] as const)
    outcome[channel] = Buffer.concat(parts[channel]).toString();
  return outcome;
}

/** Starts a process and goes away as soon as it runs: its connection is closed, not merely unread. */
export async function startAndLeave(
  agent: TestAgent,
  request: ReturnType<typeof sh> & { tag: string },
): Promise<number> {
  const gone = new AbortController();
  let pid = 0;
  try {
    for await (const { event } of agent.processes().start(request, { signal: gone.signal })) {
      if (event?.event.case === "start") pid = event.event.value.pid;
      gone.abort();
    }
  } catch (thrown) {
    if (!gone.signal.aborted) throw thrown;
  }
  return pid;
}

/** A shell command, as SDKs start it. */
export const sh = (script: string) => ({ process: { cmd: "/bin/bash", args: ["-c", script] }, stdin: false });

/** Waits until `met` holds; throws when it does not within a minute. */
export async function until(met: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; await Bun.sleep(10))
    if (await met()) return;
  throw new Error(`not met: ${met}`);
}
