import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { filesystem, processes } from "@wrenn/contract";

/**
 * A guest agent in the test's own process: real programs and files of this machine, the real protocol.
 * It promises only what the SDK relies on; the real agent is tested where it lives.
 */
export type Guest = AsyncDisposable & {
  fetch: (request: Request) => Promise<Response>;
  /** Folder that relative paths mean. */
  home: string;
  /** Headers of each call, by its last path segment. */
  calls: { name: string; headers: Headers }[];
};

type Child = Bun.Subprocess<"pipe" | "ignore", "pipe", "pipe">;
type Running = { child: Child; config: processes.ProcessConfig };

const notFound = () => new ConnectError("no such process", Code.NotFound);

/** Both streams as they come, then the end. */
async function* eventsOf(child: Child): AsyncGenerator<processes.ProcessEvent["event"]> {
  yield { case: "start", value: create(processes.ProcessEvent_StartEventSchema, { pid: child.pid }) };
  const readers = { stdout: child.stdout.getReader(), stderr: child.stderr.getReader() };
  const read = (name: keyof typeof readers) => readers[name].read().then((chunk) => ({ name, chunk }));
  const pending = new Map([
    ["stdout", read("stdout")],
    ["stderr", read("stderr")],
  ]);
  while (pending.size > 0) {
    const { name, chunk } = await Promise.race(pending.values());
    if (chunk.done) pending.delete(name);
    else {
      pending.set(name, read(name));
      const value = new Uint8Array(chunk.value);
      yield { case: "data", value: create(processes.ProcessEvent_DataEventSchema, { output: { case: name, value } }) };
    }
  }
  await child.exited;
  const status = child.signalCode
    ? `signal: ${child.signalCode === "SIGTERM" ? "terminated" : "killed"}`
    : `exit status ${child.exitCode}`;
  const end = { exitCode: child.exitCode ?? -1, exited: child.exitCode !== null, status };
  yield { case: "end", value: create(processes.ProcessEvent_EndEventSchema, end) };
}

function processService(home: string, running: Map<number, Running>): Partial<ServiceImpl<typeof processes.Process>> {
  const find = (selector?: processes.ProcessSelector) => {
    const found = selector?.selector.case === "pid" ? running.get(selector.selector.value) : undefined;
    if (!found) throw notFound();
    return found.child;
  };
  return {
    async *start({ process: config, stdin }, { signal }) {
      if (!config) throw new ConnectError("no process", Code.InvalidArgument);
      const child: Child = Bun.spawn([config.cmd, ...config.args], {
        cwd: config.cwd ?? home,
        env: { PATH: process.env.PATH, HOME: home, ...config.envs },
        stdin: stdin === false ? "ignore" : "pipe",
        stdout: "pipe",
        stderr: "pipe",
      });
      running.set(child.pid, { child, config });
      void child.exited.then(() => running.delete(child.pid));
      // The time-out of the call limits the process; a stream that merely closes does not.
      signal.addEventListener("abort", () => {
        if (ConnectError.from(signal.reason).code === Code.DeadlineExceeded) child.kill("SIGKILL");
      });
      for await (const event of eventsOf(child)) {
        if (event.case === "end") signal.throwIfAborted();
        yield { event: { event } };
      }
    },
    list: () => ({ processes: [...running].map(([pid, { config }]) => ({ pid, config })) }),
    async sendInput({ process: selector, input }) {
      const { stdin } = find(selector);
      if (typeof stdin !== "object" || !input) throw new ConnectError("stdin is closed", Code.Internal);
      try {
        await stdin.write(input.input.value ?? new Uint8Array());
        await stdin.flush();
      } catch {
        throw new ConnectError("stdin is closed", Code.Internal);
      }
      return {};
    },
    async closeStdin({ process: selector }) {
      const { stdin } = find(selector);
      if (typeof stdin === "object") await stdin.end();
      return {};
    },
    sendSignal({ process: selector, signal }) {
      find(selector).kill(signal);
      return {};
    },
  };
}

async function entry(path: string) {
  const found = await stat(path).catch(() => {
    throw new ConnectError(`no such file: ${path}`, Code.NotFound);
  });
  const type = found.isDirectory() ? filesystem.FileType.DIRECTORY : filesystem.FileType.FILE;
  const facts = { path, type, size: BigInt(found.size), mode: found.mode & 0o777, owner: "root", group: "root" };
  return { entry: { ...facts, name: path.split("/").at(-1) ?? "", permissions: "-rw-r--r--" } };
}

function filesystemService(at: (path: string) => string): Partial<ServiceImpl<typeof filesystem.Filesystem>> {
  return {
    stat: ({ path }) => entry(at(path)),
    async listDir({ path }) {
      const names = (await readdir(at(path))).sort();
      return { entries: await Promise.all(names.map(async (name) => (await entry(join(at(path), name))).entry)) };
    },
    async makeDir({ path }) {
      if (await mkdir(at(path), { recursive: true })) return entry(at(path));
      throw new ConnectError("exists", Code.AlreadyExists);
    },
    async move({ source, destination }) {
      await rename(at(source), at(destination));
      return entry(at(destination));
    },
    async remove({ path }) {
      await rm(at(path), { recursive: true, force: true });
      return {};
    },
    async *watchDir() {
      yield { event: { case: "start", value: {} } };
      const value = { name: "new.txt", type: filesystem.EventType.CREATE };
      yield { event: { case: "filesystem", value } };
      await new Promise(() => {});
    },
  };
}

async function files(request: Request, at: (path: string) => string): Promise<Response> {
  const path = at(new URL(request.url).searchParams.get("path") ?? "");
  if (request.method === "GET") {
    const file = Bun.file(path);
    const found = await file.stat().catch(() => undefined);
    if (!found) return Response.json({ code: 404, message: `file ${path} does not exist` }, { status: 404 });
    if (found.isDirectory()) return Response.json({ code: 400, message: "path is a directory" }, { status: 400 });
    return new Response(file);
  }
  await mkdir(dirname(path), { recursive: true });
  const writer = Bun.file(path).writer();
  for await (const chunk of request.body ?? []) writer.write(chunk);
  await writer.end();
  return Response.json([{ path, name: path.split("/").at(-1), type: "file" }]);
}

/** Starts the guest; disposal kills its programs and removes its home. */
export async function startGuest(): Promise<Guest> {
  const home = await mkdtemp(join(tmpdir(), "wrenn-guest-"));
  const at = (path: string) => (path.startsWith("/") ? path : join(home, path.replace(/^~\//, "")));
  const running = new Map<number, Running>();
  const router = createConnectRouter()
    .service(processes.Process, processService(home, running))
    .service(filesystem.Filesystem, filesystemService(at));
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, createFetchHandler(handler)]));
  const calls: Guest["calls"] = [];
  return {
    home,
    calls,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      calls.push({ name: pathname.split("/").at(-1) ?? "", headers: new Headers(request.headers) });
      if (pathname === "/files") return files(request, at);
      return (await handlers.get(pathname)?.(request)) ?? new Response(null, { status: 404 });
    },
    async [Symbol.asyncDispose]() {
      for (const { child } of running.values()) child.kill("SIGKILL");
      await rm(home, { recursive: true, force: true });
    },
  };
}
