import { Code, ConnectError, type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import { universalServerRequestFromFetch, universalServerResponseToFetch } from "@connectrpc/connect/protocol";
import { processes, toConnectError, WrennError } from "@wrenn/contract";

type Child = Bun.Subprocess<"pipe", "pipe", "pipe">;

/** A small agent that runs real processes on this machine. */
export async function startGuest(): Promise<{ address: string; stop(): Promise<void> }> {
  const running = new Map<number, Child>();
  const router: ConnectRouter = createConnectRouter();
  router.service(processes.Process, {
    async *start(request) {
      const config = request.process!;
      let child: Child;
      try {
        child = Bun.spawn([config.cmd, ...config.args], {
          env: { ...process.env, ...config.envs },
          ...(config.cwd && { cwd: config.cwd }),
          stdin: "pipe",
          stdout: "pipe",
          stderr: "pipe",
        });
      } catch (cause) {
        throw toConnectError(new WrennError("command_not_found", `no program ${config.cmd}`, { cause }));
      }
      running.set(child.pid, child);
      yield { event: { event: { case: "start" as const, value: { pid: child.pid } } } };
      for (const name of ["stdout", "stderr"] as const)
        for await (const chunk of child[name])
          yield { event: { event: { case: "data" as const, value: { output: { case: name, value: chunk } } } } };
      const exitCode = await child.exited;
      running.delete(child.pid);
      yield {
        event: {
          event: {
            case: "end" as const,
            value: { exitCode: child.signalCode ? -1 : exitCode, exited: !child.signalCode },
          },
        },
      };
    },
    sendSignal({ process: selector, signal }) {
      const child = selector?.selector.case === "pid" ? running.get(selector.selector.value) : undefined;
      if (!child) throw new ConnectError("no such process", Code.NotFound);
      child.kill(signal);
      return {};
    },
  });
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const handler = handlers.get(new URL(request.url).pathname);
      if (!handler) return new Response(null, { status: 404 });
      return universalServerResponseToFetch(await handler(universalServerRequestFromFetch(request, {})));
    },
  });
  return { address: `http://127.0.0.1:${server.port}`, stop: () => server.stop(true) };
}
