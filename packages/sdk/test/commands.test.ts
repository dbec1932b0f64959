import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CommandExitError, Sandbox } from "wrenn";
import { startServer, type TestServer, testKey } from "./server.ts";

let server: TestServer;
let sandbox: Sandbox;
beforeAll(async () => {
  server = await startServer();
  sandbox = await Sandbox.create({ baseUrl: server.url, apiKey: testKey });
});
afterAll(() => server[Symbol.asyncDispose]());

const me = Bun.spawnSync(["id", "-un"]).stdout.toString().trim();

const caught = (promise: Promise<unknown>) => promise.catch((thrown: unknown) => thrown);
const alive = async (pid: number) => (await sandbox.commands.list()).some((one) => one.pid === pid);

/** Waits until no process of the guest runs this; the test's own time-out is the limit. */
async function gone(script: string) {
  while ((await sandbox.commands.list()).some((one) => one.args.includes(script))) await Bun.sleep(5);
}

describe("commands", () => {
  test("run goes through a shell and returns both streams", async () => {
    const result = await sandbox.commands.run("echo out | tr a-z A-Z; echo err >&2");
    expect(result).toEqual({
      stdout: "OUT\n",
      stderr: "err\n",
      exitCode: 0,
      status: "exit status 0",
      truncated: false,
    });
  });

  test("exec takes arguments as they are, with folder, environment and user", async () => {
    const options = { cwd: "/", envs: { WHO: "me" }, user: me };
    const { stdout } = await sandbox.commands.exec(
      "sh",
      ["-c", 'printf "%s|%s|%s" "$WHO" "$PWD" "$0"', "a b;c"],
      options,
    );
    expect(stdout).toBe("me|/|a b;c");
    expect(server.guest.calls.at(-1)?.headers.get("authorization")).toBe(`Basic ${btoa(`${me}:`)}`);
  });

  test("another exit code is a CommandExitError with what was written", async () => {
    const error = await caught(sandbox.commands.run("echo half; echo why >&2; exit 3"));
    expect(error).toBeInstanceOf(CommandExitError);
    expect(error).toMatchObject({ exitCode: 3, stdout: "half\n", stderr: "why\n" });
    expect((error as Error).message).toBe("command ended with exit status 3: why");
  });

  test("callbacks get text that is never cut inside a character, and bytes as they were", async () => {
    const texts: string[] = [];
    const bytes: number[] = [];
    await sandbox.commands.run("printf '\\xc3'; sleep 0.05; printf '\\xa4!'", {
      onStdout: (text) => texts.push(text),
      onOutput: (chunk) => bytes.push(...chunk.bytes),
    });
    expect(texts).toEqual(["ä!"]);
    expect(bytes).toEqual([0xc3, 0xa4, 0x21]);
  });

  test("output beyond the limit is dropped and said so", async () => {
    const result = await sandbox.commands.run("printf 12345", { maxOutputBytes: 3 });
    expect(result).toMatchObject({ stdout: "123", truncated: true });
    expect((await sandbox.commands.run("printf 12345", { collect: false })).stdout).toBe("");
  });

  test("large output arrives whole", async () => {
    let size = 0;
    const take = { collect: false, onOutput: (chunk: { bytes: Uint8Array }) => (size += chunk.bytes.byteLength) };
    await sandbox.commands.run("head -c 20000000 /dev/zero", take);
    expect(size).toBe(20_000_000);
  });

  test("stdin is sent and closed, text or bytes, larger than one message too", async () => {
    expect((await sandbox.commands.run("cat", { stdin: "hello" })).stdout).toBe("hello");
    const { stdout } = await sandbox.commands.run("wc -c", { stdin: new Uint8Array(1_000_000) });
    expect(stdout.trim()).toBe("1000000");
  });

  test("a command that ends without reading its stdin is no error", async () => {
    expect((await sandbox.commands.run("true", { stdin: "x".repeat(1_000_000) })).exitCode).toBe(0);
  });

  test("a background command is fed, listed, read and waited for", async () => {
    const handle = await sandbox.commands.run("read line; echo got $line", { background: true, stdin: true });
    expect((await sandbox.commands.list()).find((one) => one.pid === handle.pid)?.cmd).toBe("/bin/bash");
    await Promise.all([handle.sendStdin("a"), handle.sendStdin("b\n")]);
    expect((await handle.wait()).stdout).toBe("got ab\n");
    expect(await handle.kill()).toBe(false);
  });

  test("disconnect leaves the command running, kill ends it", async () => {
    const handle = await sandbox.commands.run("exec sleep 60", { background: true });
    handle.disconnect();
    expect(await caught(handle.wait())).toMatchObject({ name: "AbortError" });
    expect(await alive(handle.pid)).toBe(true);
    expect(await sandbox.commands.kill(handle.pid)).toBe(true);
  });

  test("an abort kills the command and rejects with its reason", async () => {
    const abort = new AbortController();
    const reason = new Error("enough");
    const script = "echo ready; exec sleep 60";
    const running = sandbox.commands.run(script, { signal: abort.signal, onStdout: () => abort.abort(reason) });
    expect(await caught(running)).toBe(reason);
    await gone(script);
  });

  test("an abort before the start leaves nothing running", async () => {
    const abort = new AbortController();
    const running = sandbox.commands.run("exec sleep 61", { signal: abort.signal });
    abort.abort();
    expect(await caught(running)).toMatchObject({ name: "AbortError" });
    await gone("exec sleep 61");
  });

  test("a command that takes longer than its time-out is killed and says so", async () => {
    const error = await caught(sandbox.commands.run("exec sleep 62", { timeoutMs: 100 }));
    expect(error).toMatchObject({ code: "timeout", message: "the command timed out after 100 ms" });
    await gone("exec sleep 62");
  });
});
