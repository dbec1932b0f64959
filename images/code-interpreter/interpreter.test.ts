import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Sandbox } from "@e2b/code-interpreter";

/** The port is the protocol's: the client knows no other. */
const port = 49_999;
const own = import.meta.dir;
const cache = join(own, "../../.cache/images");

// The packages are 150 MB: they are there where `make code-interpreter` was run, and run where the same Python is.
const fetched = (await readdir(cache).catch(() => [])).find((name) => /^code-interpreter-[0-9a-f]+$/.test(name));
const python = Bun.spawnSync(["python3", "--version"]).stdout.toString();
const isTaken = await fetch(`http://127.0.0.1:${port}/health`).then(
  () => true,
  () => false,
);
const why = !fetched
  ? "no packages: run make code-interpreter"
  : !python.startsWith("Python 3.11.")
    ? "python3 is not 3.11"
    : isTaken
      ? `port ${port} is taken`
      : "";
const served = why ? describe.skip : describe;

let dir: string;
let server: Bun.Subprocess | undefined;

beforeAll(async () => {
  if (why) return;
  dir = await mkdtemp(join(tmpdir(), "wrenn-interpreter-"));
  await cp(join(cache, fetched!, "share"), join(dir, "share"), { recursive: true });
  await mkdir(join(dir, "share/kernels/javascript"), { recursive: true });
  await cp(join(own, "kernels/javascript/kernel.json"), join(dir, "share/kernels/javascript/kernel.json"));
  await cp(join(own, "startup"), join(dir, "ipython/profile_default/startup"), { recursive: true });
  server = Bun.spawn(["python3", join(own, "server/main.py")], {
    cwd: dir,
    env: {
      PATH: process.env.PATH,
      HOME: dir,
      PYTHONPATH: [join(cache, fetched!, "site"), join(own, "kernels/javascript")].join(":"),
      JUPYTER_PATH: join(dir, "share"),
      IPYTHONDIR: join(dir, "ipython"),
      MPLCONFIGDIR: join(dir, "matplotlib"),
      PYTHONDONTWRITEBYTECODE: "1",
    },
    stdout: "ignore",
    stderr: "ignore",
  });
  while (!(await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined))?.ok) await Bun.sleep(100);
}, 120_000);

afterAll(async () => {
  server?.kill("SIGTERM");
  await server?.exited;
  if (dir) await rm(dir, { recursive: true, force: true });
});

/** The published client; in its debug mode it speaks to this machine. */
const client = () => {
  const facts = { sandboxId: "local", sandboxDomain: "localhost", envdVersion: "0.6.4", debug: true };
  return new Sandbox({ ...facts, apiKey: `e2b_${"0".repeat(16)}` } as ConstructorParameters<typeof Sandbox>[0]);
};

served(`the code interpreter, by its published client${why && ` (skipped: ${why})`}`, () => {
  test("keeps what code defined, tells output and the value of the last line", async () => {
    const sandbox = client();
    await sandbox.runCode("x = 41");
    const { text, logs } = await sandbox.runCode("print('out')\nx + 1");
    expect([text, logs.stdout]).toEqual(["42", ["out\n"]]);
  });

  test("tells an error with its name, value and traceback", async () => {
    const { error } = await client().runCode("1 / 0");
    expect([error?.name, error?.value]).toEqual(["ZeroDivisionError", "division by zero"]);
    expect(error?.traceback).toContain("Traceback");
  });

  test("shows tables as data, figures as image and chart", async () => {
    const sandbox = client();
    const table = await sandbox.runCode("import pandas\npandas.DataFrame({'a': [1, 2]})");
    expect(table.results[0]?.data as unknown).toEqual({ a: [1, 2] });
    const figure = await sandbox.runCode("import matplotlib.pyplot as plot\nplot.bar(['a'], [1])\nplot.show()");
    expect(figure.results.at(-1)?.png?.startsWith("iVBOR")).toBe(true);
    expect(figure.results.at(-1)?.chart?.type as string).toBe("bar");
  }, 30_000);

  test("runs JavaScript with await, and a cell again", async () => {
    const sandbox = client();
    const cell = "const a = await Promise.resolve(20)\na * 2";
    for (const _ of [1, 2]) expect((await sandbox.runCode(cell, { language: "javascript" })).text).toBe("40");
    const { error } = await sandbox.runCode("throw new TypeError('bad')", { language: "javascript" });
    expect([error?.name, error?.value]).toEqual(["TypeError", "bad"]);
  });

  test("runs Bash, with variables for one execution", async () => {
    const { logs } = await client().runCode("echo $WORD", { language: "bash", envs: { WORD: "two words" } });
    expect(logs.stdout.join("")).toBe("two words\n");
  });

  test("has contexts of their own, which can be restarted and removed", async () => {
    const sandbox = client();
    const context = await sandbox.createCodeContext({ cwd: dir });
    await sandbox.runCode("y = 1", { context });
    await sandbox.restartCodeContext(context);
    expect((await sandbox.runCode("y", { context })).error?.name).toBe("NameError");
    await sandbox.removeCodeContext(context);
    await expect(sandbox.runCode("1", { context })).rejects.toThrow();
  }, 30_000);

  test("interrupts code whose client is gone, and goes on", async () => {
    const sandbox = client();
    const endless = sandbox.runCode("import time\nwhile True: time.sleep(0.1)", { timeoutMs: 500 });
    await expect(endless).rejects.toThrow();
    expect((await sandbox.runCode("'free again'")).text).toBe("free again");
  }, 30_000);
});
