import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { processes } from "@wrenn/contract";
import { collect, sh, until, useAgent } from "./support/agent.ts";

const agent = useAgent();

/** A terminal with a shell on it, to type into. */
async function terminal(script = "exec bash --norc --noprofile -i", envs: Record<string, string> = {}) {
  const client = agent.processes();
  const request = { ...sh(script), pty: { size: { cols: 100, rows: 30 } } };
  const stream = client.start({ ...request, process: { ...request.process, envs: { PS1: "$ ", ...envs } } });
  const events = stream[Symbol.asyncIterator]();
  const pid = (await events.next()).value.event.event.value.pid as number;
  const process = { selector: { case: "pid" as const, value: pid } };
  const screen = { text: "", end: undefined as processes.ProcessEvent_EndEvent | undefined };
  const reading = (async () => {
    for (let next = await events.next(); !next.done; next = await events.next()) {
      const { event } = next.value.event ?? {};
      if (event?.case === "data") screen.text += Buffer.from(event.value.output.value!).toString();
      if (event?.case === "end") screen.end = event.value;
    }
  })();
  return {
    screen,
    reading,
    type: (text: string) => client.sendInput({ process, input: { input: { case: "pty", value: Buffer.from(text) } } }),
    resize: (cols: number, rows: number) => client.update({ process, pty: { size: { cols, rows } } }),
    kill: () => client.sendSignal({ process, signal: processes.Signal.SIGKILL }),
    send: (text: string) =>
      client.sendInput({ process, input: { input: { case: "stdin", value: Buffer.from(text) } } }),
  };
}

test("a terminal has the size asked for, a TERM, and follows a resize", async () => {
  const { screen, type, resize, reading } = await terminal();
  await type("stty size; echo $TERM; test -t 0 && echo is-a-tty\n");
  await until(() => /30 100\r\n/.test(screen.text) && /xterm-256color\r\n/.test(screen.text));
  await until(() => /is-a-tty\r\n/.test(screen.text));
  await resize(132, 50);
  await type("stty size\n");
  await until(() => /50 132\r\n/.test(screen.text));
  await type("exit 5\n");
  await reading;
  expect(screen.end).toMatchObject({ exitCode: 5, exited: true });
});

test("Ctrl-C interrupts what runs in the foreground, and the shell goes on", async () => {
  const { screen, type, reading } = await terminal();
  await type("sleep 300\n");
  await until(() => screen.text.includes("sleep 300"));
  await Bun.sleep(100);
  await type("\x03");
  await type("echo status $?\n");
  await until(() => /status 130\r\n/.test(screen.text));
  await type("\x04");
  await reading;
  expect(screen.end?.exited).toBe(true);
});

test("a caller's TERM is kept", async () => {
  const { screen, reading } = await terminal("echo $TERM", { TERM: "vt100" });
  await reading;
  expect(screen.text).toBe("vt100\r\n");
});

test("input keeps its order, however it is cut", async () => {
  const { screen, type, reading } = await terminal("stty -echo; echo go; head -n 200");
  await until(() => screen.text.includes("go"));
  for (let i = 0; i < 200; i++) await type(`line ${i}\n`);
  await reading;
  const lines = screen.text.split("\r\n").filter((line) => line.startsWith("line"));
  expect(lines).toEqual(Array.from({ length: 200 }, (_, i) => `line ${i}`));
});

test("much output on a terminal arrives whole", async () => {
  const outcome = await collect(
    agent.processes().start({ ...sh("stty -opost; head -c 5000000 /dev/zero"), pty: { size: { cols: 80, rows: 24 } } }),
  );
  expect(outcome.pty.length).toBe(5_000_000);
  expect(outcome.end).toMatchObject({ exitCode: 0 });
});

test("killing a terminal's process ends the stream", async () => {
  const { screen, kill, reading } = await terminal("sleep 300");
  await kill();
  await reading;
  expect(screen.end).toMatchObject({ exitCode: -1, exited: false, status: "signal: killed" });
});

test("stdin for a terminal, a size for a pipe, and impossible sizes are refused", async () => {
  const codeOf = (work: Promise<unknown>) =>
    work.then(
      () => undefined,
      (thrown) => ConnectError.from(thrown).code,
    );
  const { send, kill, resize, reading } = await terminal("sleep 300");
  expect(await codeOf(send("x"))).toBe(Code.Internal);
  expect(await codeOf(resize(0, 10))).toBe(Code.InvalidArgument);
  expect(await codeOf(resize(70_000, 10))).toBe(Code.InvalidArgument);
  await kill();
  await reading;
  const client = agent.processes();
  const stream = client.start({ ...sh("sleep 300"), tag: "piped" })[Symbol.asyncIterator]();
  await stream.next();
  const process = { selector: { case: "tag" as const, value: "piped" } };
  expect(await codeOf(client.update({ process, pty: { size: { cols: 80, rows: 24 } } }))).toBe(Code.FailedPrecondition);
  await client.sendSignal({ process, signal: processes.Signal.SIGKILL });
  await collect({ [Symbol.asyncIterator]: () => stream });
});
