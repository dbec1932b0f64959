import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import { fromConnectError, processes } from "@wrenn/contract";
import { $ } from "bun";
import { collect, sh, startAndLeave, until, useAgent } from "./support/agent.ts";

const agent = useAgent();

const failure = async (work: Promise<unknown>): Promise<ConnectError> => {
  const thrown = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(thrown).toBeInstanceOf(ConnectError);
  return thrown as ConnectError;
};

describe.each([true, false])("process.Process, JSON: %p", (json) => {
  test("a command's events are start, its output, end", async () => {
    const outcome = await collect(
      agent.processes(json).start(sh("echo out; sleep 0.05; echo err >/dev/stderr; exit 3")),
    );
    expect(outcome).toMatchObject({ stdout: "out\n", stderr: "err\n" });
    expect(outcome.events).toEqual(["start", "data", "data", "end"]);
    expect(outcome.end).toMatchObject({ exitCode: 3, exited: true, status: "exit status 3", error: "exit status 3" });
  });

  test("success has code 0 and no error", async () => {
    const { end } = await collect(agent.processes(json).start({ process: { cmd: "true" } }));
    expect(end).toMatchObject({ exitCode: 0, exited: true, status: "exit status 0" });
    expect(end?.error).toBeUndefined();
  });

  test("bytes of every value arrive as they were written", async () => {
    const script = "for i in $(seq 0 255); do printf \\\\x$(printf %02x $i); done";
    const chunks: Uint8Array[] = [];
    for await (const { event } of agent.processes(json).start(sh(script)))
      if (event?.event.case === "data") chunks.push(event.event.value.output.value!);
    expect([...Buffer.concat(chunks)]).toEqual([...Array(256).keys()]);
  });

  test("an absent command is told apart without reading text", async () => {
    const error = await failure(collect(agent.processes(json).start({ process: { cmd: "no-such-program" } })));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(fromConnectError(error)).toMatchObject({ code: "command_not_found", details: { cmd: "no-such-program" } });
  });

  test("a missing working directory is the caller's mistake", async () => {
    const error = await failure(collect(agent.processes(json).start({ process: { cmd: "ls", cwd: "/no/such" } })));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(fromConnectError(error)).toMatchObject({ code: "invalid_request", details: { cwd: "/no/such" } });
  });

  test("input arrives in order, and closing it ends the reader", async () => {
    const client = agent.processes(json);
    const stream = client.start({ process: { cmd: "cat" }, tag: `cat-${json}` })[Symbol.asyncIterator]();
    const first = await stream.next();
    const pid = first.value.event.event.value.pid as number;
    const process = { selector: { case: "tag" as const, value: `cat-${json}` } };
    for (let i = 0; i < 50; i++)
      await client.sendInput({ process, input: { input: { case: "stdin", value: Buffer.from(`line ${i}\n`) } } });
    await client.closeStdin({ process: { selector: { case: "pid", value: pid } } });
    const rest = await collect({ [Symbol.asyncIterator]: () => stream });
    expect(rest.stdout).toBe(Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join(""));
    const late = await failure(
      client.sendInput({ process, input: { input: { case: "stdin", value: Buffer.from("x") } } }),
    );
    expect(late.code).toBe(Code.NotFound);
  });
});

test("input for a process without stdin, or on closed stdin, is refused", async () => {
  const client = agent.processes();
  const input = { input: { case: "stdin" as const, value: Buffer.from("x") } };
  for (const stdin of [true, false]) {
    const stream = client.start({ ...sh("sleep 5"), stdin })[Symbol.asyncIterator]();
    const pid = (await stream.next()).value.event.event.value.pid;
    const process = { selector: { case: "pid" as const, value: pid } };
    if (stdin) await client.closeStdin({ process });
    expect((await failure(client.sendInput({ process, input }))).code).toBe(Code.Internal);
    await client.sendSignal({ process, signal: processes.Signal.SIGKILL });
    await collect({ [Symbol.asyncIterator]: () => stream });
  }
});

test("input that a process closed its end of is refused to its sender, and troubles nobody else", async () => {
  const client = agent.processes();
  for (const size of [1, 1024 * 1024]) {
    const stream = client.start({ ...sh("exec <&-; echo closed; sleep 5"), stdin: true })[Symbol.asyncIterator]();
    const pid = (await stream.next()).value.event.event.value.pid;
    await stream.next();
    const process = { selector: { case: "pid" as const, value: pid } };
    const input = { input: { case: "stdin" as const, value: new Uint8Array(size) } };
    for (let i = 0; i < 3; i++) expect((await failure(client.sendInput({ process, input }))).code).toBe(Code.Internal);
    await client.sendSignal({ process, signal: processes.Signal.SIGKILL });
    await collect({ [Symbol.asyncIterator]: () => stream });
  }
});

test("a signal reaches the whole tree and is told exactly", async () => {
  const client = agent.processes();
  for (const [signal, status] of [
    [processes.Signal.SIGTERM, "signal: terminated"],
    [processes.Signal.SIGKILL, "signal: killed"],
  ] as const) {
    const stream = client.start(sh("sleep 300 & echo $!; wait"))[Symbol.asyncIterator]();
    const pid = (await stream.next()).value.event.event.value.pid;
    const child = Buffer.from((await stream.next()).value.event.event.value.output.value)
      .toString()
      .trim();
    await client.sendSignal({ process: { selector: { case: "pid", value: pid } }, signal });
    const { end } = await collect({ [Symbol.asyncIterator]: () => stream });
    expect(end).toMatchObject({ exitCode: -1, exited: false, status, error: status });
    await until(
      () => !existsSync(`/proc/${child}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${child}/status`, "utf8")),
    );
  }
});

test("the list holds what runs, with its tag, and nothing that ended", async () => {
  const client = agent.processes();
  const stream = client.start({ ...sh("sleep 300"), tag: "sleeper" })[Symbol.asyncIterator]();
  const pid = (await stream.next()).value.event.event.value.pid;
  const listed = async () => (await client.list({})).processes.find((process) => process.pid === pid);
  expect(await listed()).toMatchObject({ tag: "sleeper", config: { cmd: "/bin/bash", args: ["-c", "sleep 300"] } });
  await client.sendSignal({
    process: { selector: { case: "tag", value: "sleeper" } },
    signal: processes.Signal.SIGKILL,
  });
  await collect({ [Symbol.asyncIterator]: () => stream });
  expect(await listed()).toBeUndefined();
});

test.concurrent("a process outlives its stream, and what nobody read is replayed to who attaches", async () => {
  const client = agent.processes();
  await startAndLeave(agent, { ...sh("sleep 0.1; echo one; sleep 0.2; echo two; sleep 0.2; exit 7"), tag: "left" });
  await Bun.sleep(200);
  const process = { selector: { case: "tag" as const, value: "left" } };
  const attached = await collect(client.connect({ process }));
  expect(attached.stdout).toBe("one\ntwo\n");
  expect(attached.end).toMatchObject({ exitCode: 7 });
  const late = await collect(client.connect({ process }));
  expect(late.events.at(0)).toBe("start");
  expect(late.end).toMatchObject({ exitCode: 7 });
});

test("an unknown process is not found", async () => {
  const client = agent.processes();
  const process = { selector: { case: "pid" as const, value: 4_000_000 } };
  for (const work of [
    client.sendSignal({ process, signal: processes.Signal.SIGKILL }),
    client.closeStdin({ process }),
    client.update({ process }),
    collect(client.connect({ process })),
  ])
    expect((await failure(work)).code).toBe(Code.NotFound);
});

test.concurrent("the deadline of start ends the process and the stream", async () => {
  const client = agent.processes();
  const seen: string[] = [];
  let pid = 0;
  const error = await failure(
    (async () => {
      for await (const { event } of client.start(sh("echo $$; sleep 300"), { timeoutMs: 300 })) {
        seen.push(event?.event.case ?? "");
        if (event?.event.case === "start") pid = event.event.value.pid;
      }
    })(),
  );
  expect(error.code).toBe(Code.DeadlineExceeded);
  expect(seen.slice(0, 2)).toEqual(["start", "data"]);
  await until(() => !existsSync(`/proc/${pid}`));
});

test.concurrent("a silent stream sends keep-alives at the interval asked for", async () => {
  const { events } = await collect(
    agent.processes().start(sh("sleep 2.2"), { headers: { "Keepalive-Ping-Interval": "1" } }),
  );
  expect(events).toEqual(["start", "keepalive", "keepalive", "end"]);
});

test.concurrent("the end comes soon after the exit although a grandchild holds the pipe, and that one lives on", async () => {
  const outcome = await collect(agent.processes().start(sh("(sleep 1; echo late; sleep 300) & echo $!")));
  expect(outcome.end).toMatchObject({ exitCode: 0 });
  const child = Number(outcome.stdout.trim());
  await Bun.sleep(1100); // its write after the end finds the pipe open
  expect(existsSync(`/proc/${child}`)).toBe(true);
  process.kill(child, "SIGKILL");
});

test.concurrent("what a process wrote before it left is complete although a grandchild goes on writing", async () => {
  const outcome = await collect(
    agent.processes().start(sh("(while sleep 0.02; do echo noise >&2; done) & head -c 3000000 /dev/zero")),
  );
  expect(outcome.stdout.length).toBe(3_000_000);
  process.kill(-outcome.pid, "SIGKILL");
});

test("environment: who the user is, then the sandbox's, then the request's", async () => {
  const script = { ...sh("echo $HOME $USER $LOGNAME $GREETING; pwd") };
  const { stdout } = await collect(
    agent.processes().start({ ...script, process: { ...script.process, envs: { GREETING: "hi" } } }),
  );
  const name = (await $`id -un`.text()).trim();
  const home = (await $`getent passwd ${name}`.text()).split(":")[5]!;
  // The sandbox's own HOME wins over the user's, where commands begin all the same.
  expect(stdout).toBe(`${agent.folder} ${name} ${name} hi\n${existsSync(home) ? home : "/"}\n`);
});

test("an unknown user is refused with the text clients know", async () => {
  const headers = { Authorization: `Basic ${btoa("nobody-here:")}` };
  const error = await failure(collect(agent.processes().start(sh("true"), { headers })));
  expect(error.code).toBe(Code.Unauthenticated);
  expect(error.rawMessage).toBe("invalid username: 'nobody-here'");
});

test("a NUL byte in a command is refused, not cut off", async () => {
  const error = await failure(collect(agent.processes().start({ process: { cmd: "echo", args: ["a\0b"] } })));
  expect(error.code).toBe(Code.InvalidArgument);
});
