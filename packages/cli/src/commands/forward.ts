import { createServer, type Server, type Socket } from "node:net";
import { Command, InvalidArgumentError } from "commander";
import { type CommandHandle, Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { type Json, portNumber } from "../options.ts";
import { Failure, print, printJson } from "../output.ts";

/** A local port and the port of the sandbox that it stands for. */
export type Forwarding = { local: number; remote: number };

/** Reads `LOCAL:REMOTE` or `PORT`; a local port of 0 picks a free one. */
export function forwarding(text: string, before: readonly Forwarding[] = []): Forwarding[] {
  const [, local, remote] = /^(?:(\d{1,5}):)?(\d{1,5})$/.exec(text) ?? [];
  if (remote === undefined)
    throw new InvalidArgumentError("Write it as LOCAL:REMOTE, such as 8080:80, or as one PORT.");
  const target = portNumber(remote);
  return [...before, { local: local === undefined ? target : local === "0" ? 0 : portNumber(local), remote: target }];
}

/**
 * Connects standard input and output to a port of the guest itself, so that servers that listen on its loopback only
 * are reached too. bash opens the port where socat is missing.
 */
const connector = `if command -v socat >/dev/null; then exec socat - "TCP:localhost:$1"; fi
exec bash -c 'exec 3<>"/dev/tcp/localhost/$1" || exit 1; cat <&3 & cat >&3; kill $!' bash "$1"`;

/** `wrenn forward`. */
export const forwardCommand = (): Command =>
  new Command("forward")
    .description("make ports of a sandbox reachable on this machine, for any TCP protocol, until Ctrl-C")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("<ports...>", "LOCAL:REMOTE or PORT; a LOCAL of 0 picks a free port", forwarding)
    .option("--address <ip>", "address of this machine to listen on", "127.0.0.1")
    .option("--json", "print one line of JSON for each port when it listens")
    .addHelpText("after", "\nExamples:\n  wrenn forward cl-3k9 5432\n  wrenn forward cl-3k9 8080:80 2222:22")
    .action(async (text: string, ports: Forwarding[], { address, json }: Json & { address: string }) => {
      const client = new Wrenn();
      const id = await resolveId(client, text);
      const sandbox = await Sandbox.connect(id, { client });
      const servers: Server[] = [];
      try {
        for (const { local, remote } of ports) {
          const server = await listen({ address, port: local }, (socket) => void carry(socket, sandbox, remote));
          servers.push(server);
          const { port } = server.address() as { port: number };
          if (json) printJson({ id, address, local: port, remote });
          else print(`${address}:${port} -> ${id} port ${remote}`);
        }
        await interrupted();
      } finally {
        for (const server of servers) server.close();
      }
      process.exit(0); // connections that are open end with this program
    });

async function listen(at: { address: string; port: number }, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ noDelay: true, pauseOnConnect: true, allowHalfOpen: true }, onSocket);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(at.port, at.address, resolve);
  await promise.catch((thrown: NodeJS.ErrnoException) => {
    const why = thrown.code === "EADDRINUSE" ? "it is in use" : thrown.message;
    throw new Failure(`cannot listen on ${at.address}:${at.port}: ${why}`, "Choose another port: LOCAL:REMOTE.");
  });
  return server;
}

/** Carries one connection; a side that reads slowly slows the other down. */
async function carry(socket: Socket, sandbox: Sandbox, port: number): Promise<void> {
  socket.on("error", () => {}); // its close follows, and ends the guest's side
  try {
    const handle = await sandbox.commands.exec("sh", ["-c", connector, "sh", `${port}`], {
      ...{ background: true, timeoutMs: 0, stdin: true, maxOutputBytes: 4_096 },
      onOutput: ({ stream, bytes }) => (stream === "stdout" ? written(socket, bytes) : undefined),
    });
    socket.once("close", () => void handle.kill("SIGTERM").catch(() => {}));
    void send(socket, handle);
    const { exitCode, stderr } = await handle.ended();
    if (exitCode === 0 || socket.destroyed) return void socket.end();
    tell(port, stderr);
    socket.resetAndDestroy();
  } catch (thrown) {
    tell(port, (thrown as Error).message);
    socket.resetAndDestroy();
  }
}

const tell = (port: number, said: string) =>
  process.stderr.write(`port ${port}: ${said.trim().split("\n").at(-1) || "the connection was refused"}\n`);

async function send(socket: Socket, handle: CommandHandle): Promise<void> {
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) await handle.sendStdin(chunk as Uint8Array);
    await handle.closeStdin();
  } catch {
    // One of the two ends has gone; the other is told by `carry`.
  }
}

/** A promise while the reader of the socket is behind. */
function written(socket: Socket, bytes: Uint8Array): Promise<void> | undefined {
  if (socket.destroyed || socket.write(bytes)) return undefined;
  return new Promise((resolve) => {
    const settle = () => {
      socket.off("drain", settle).off("close", settle);
      resolve();
    };
    socket.once("drain", settle).once("close", settle);
  });
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
  });
}
