/**
 * Serves jobs inside the lab's host: runs commands and streams what they print, hands files out, gives a terminal.
 * Reached from the machine outside through one forwarded port; nothing else can.
 */

/** The outside takes silence for a dead host, and a command may be silent for minutes. */
const heartbeatMs = 1_000;

type Job = { argv: string[]; env?: Record<string, string>; cwd?: string; timeoutSec: number };

/** Runs a job; every line of the answer is one event: `out` with bytes in base64, `beat`, and `exit` as the last. */
function run(job: Job): ReadableStream<string> {
  return new ReadableStream({
    async start(stream) {
      const say = (event: object) => stream.enqueue(`${JSON.stringify(event)}\n`);
      const beat = setInterval(() => say({ beat: Date.now() }), heartbeatMs);
      // A process group of its own, so that a time-out ends what it started too.
      const child = Bun.spawn(["setsid", "-w", ...job.argv], {
        env: { ...process.env, ...job.env },
        cwd: job.cwd ?? "/lab/repo",
        stdio: ["ignore", "pipe", "pipe"],
      });
      const end = setTimeout(() => {
        say({ out: Buffer.from(`\nlab: ended after ${job.timeoutSec} s\n`).toString("base64") });
        killTree(child.pid);
      }, job.timeoutSec * 1000);
      const pass = async (from: ReadableStream<Uint8Array>) => {
        for await (const chunk of from) say({ out: Buffer.from(chunk).toString("base64") });
      };
      const output = Promise.all([pass(child.stdout), pass(child.stderr)]);
      const code = await child.exited;
      // What a job leaves running in the background may hold its output open for ever.
      await Promise.race([output, Bun.sleep(500)]);
      clearTimeout(end);
      clearInterval(beat);
      say({ exit: child.signalCode ? 128 : code });
      stream.close();
    },
  });
}

/** Kills a process and its descendants, deepest last, so that none is adopted and lives on. */
function killTree(pid: number): void {
  const children = Bun.spawnSync(["pgrep", "-P", `${pid}`])
    .stdout.toString()
    .split("\n")
    .filter(Boolean)
    .map(Number);
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // ended meanwhile
  }
  children.forEach(killTree);
}

type Shell = { terminal?: Bun.Terminal };

const server = Bun.serve<Shell>({
  hostname: "0.0.0.0",
  port: 5000,
  idleTimeout: 0,
  async fetch(request, server) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/health":
        return new Response("ok");
      case "/run":
        return new Response(run((await request.json()) as Job));
      case "/files": {
        const path = url.searchParams.get("path") ?? "";
        const child = Bun.spawn(["tar", "-C", path, "-cf", "-", "."], { stdio: ["ignore", "pipe", "ignore"] });
        return new Response(child.stdout);
      }
      case "/shell":
        return server.upgrade(request, { data: {} }) ? undefined : new Response(null, { status: 400 });
      default:
        return new Response(null, { status: 404 });
    }
  },
  websocket: {
    open(socket) {
      const terminal = new Bun.Terminal({ data: (_, bytes) => void socket.send(bytes) });
      socket.data.terminal = terminal;
      const shell = Bun.spawn(["bash", "-l"], { terminal, cwd: "/lab/repo", env: { ...process.env, TERM: "xterm" } });
      void shell.exited.then(() => socket.close());
    },
    message(socket, data) {
      if (typeof data !== "string") return void socket.data.terminal?.write(data);
      const { cols, rows } = JSON.parse(data) as { cols: number; rows: number };
      socket.data.terminal?.resize(cols, rows);
    },
    close: (socket) => socket.data.terminal?.close(),
  },
});
await Bun.write("/dev/console", `lab: ready on port ${server.port}\n`);
