import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { Sandbox } from "@e2b/code-interpreter";
import { Glob } from "bun";
import { installed } from "../support/data-folder.ts";
import { e2bPython } from "../support/e2b-python.ts";
import { until } from "../support/processes.ts";
import { pythonWith } from "../support/python.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

const images = ["code-interpreter-v1", "code-runner-beta"];
const isBuilt = images.every((name) => existsSync(`${installed}/images/${name}/image.json`));
const why = isBuilt ? "" : " (skipped: the images are not there: run make code-interpreter)";
const vm = isBuilt ? describe : describe.skip;

/** Kernels that load large libraries in an emulated guest of a busy machine take minutes, once. */
const freezeMs = 15 * 60_000;

let system: System;
let connection: { apiKey: string; apiUrl: string; sandboxUrl: string };
let sandbox: Sandbox;

beforeAll(async () => {
  if (!isBuilt) return;
  system = await System.start("interpreter", {}, images);
  const { url, apiKey } = system.ready;
  connection = { apiKey: apiKey.replace(/^wrn_/, "e2b_"), apiUrl: url, sandboxUrl: url };
  // The host freezes what it has ahead of time; the published clients do not wait that long for a first sandbox.
  await until("frozen templates", async () => images.every((name) => frozen().includes(name)), {
    withinMs: freezeMs,
    everyMs: 500,
  });
  sandbox = await Sandbox.create({ ...connection, envs: { GIVEN: "at the creation" } });
}, freezeMs);

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Names of the images whose templates the host has frozen. */
const frozen = (): string[] =>
  [...new Glob("*/template.json").scanSync(`${system.dir}/templates`)].map(
    (path) => JSON.parse(readFileSync(`${system.dir}/templates/${path}`, "utf8")).image.name,
  );

/** Runs a Python program against the system; answers what it printed, or throws what it said. */
async function python(program: string, args: readonly string[], env: Record<string, string>): Promise<string> {
  const child = Bun.spawn([program, ...args], {
    env: { PATH: process.env.PATH ?? "", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0)
    throw new Error(`it ended with ${child.exitCode ?? child.signalCode}: ${said}${printed}`);
  return printed;
}

vm(`the code interpreter, by its published client for JavaScript${why}`, () => {
  test("keeps what code defined; its kernels were started before the sandbox was", async () => {
    expect((await sandbox.runCode("x = 41")).executionCount).toBe(1);
    const { text, logs } = await sandbox.runCode("print('out')\nx + 1");
    expect([text, logs.stdout]).toEqual(["42", ["out\n"]]);
    const age = await sandbox.runCode("import os, time\nos.path.getmtime(f'/proc/{os.getpid()}') < time.time()");
    expect(age.text).toBe("True");
    expect((await sandbox.getInfo()).templateId).toBe("code-interpreter-v1");
  });

  test("gives every sandbox its own random numbers, though their kernels were started in one template", async () => {
    const other = await Sandbox.create(connection);
    const code = "import numpy, random\n[random.random(), numpy.random.rand()]";
    const [one, two] = await Promise.all([sandbox, other].map((each) => each.runCode(code)));
    const [mine, theirs] = [one, two].map((drawn) => drawn?.results[0]?.json as unknown as number[]);
    expect(mine?.filter((number) => theirs?.includes(number))).toEqual([]);
    expect(mine).toHaveLength(2);
    await other.kill();
  });

  test("knows the sandbox's variables, and those of one execution for that one", async () => {
    const code = "import os\n[os.environ.get(name) for name in ('GIVEN', 'OWN')]";
    expect((await sandbox.runCode(code, { envs: { OWN: "of this one" } })).text).toBe(
      "['at the creation', 'of this one']",
    );
    expect((await sandbox.runCode(code, { envs: { GIVEN: "another" } })).text).toBe("['another', None]");
    expect((await sandbox.runCode(code)).text).toBe("['at the creation', None]");
  });

  test("tells what is printed as it is printed", async () => {
    const heard: string[] = [];
    const hear = (kind: string) => (what: { line: string }) => void heard.push(`${kind} ${what.line.trim()}`);
    const told = { onStdout: hear("out"), onStderr: hear("err"), onResult: () => void heard.push("result") };
    const code = "import sys, time\nprint('a')\ntime.sleep(0.5)\nprint('b', file=sys.stderr)\ntime.sleep(0.5)\n7";
    await sandbox.runCode(code, told);
    expect(heard).toEqual(["out a", "err b", "result"]);
  });

  test("tells an error with its name, value and traceback", async () => {
    const { error } = await sandbox.runCode("def half(x):\n    return x / 0\nhalf(1)");
    expect([error?.name, error?.value]).toEqual(["ZeroDivisionError", "division by zero"]);
    expect(error?.traceback).toMatch(/Traceback[\s\S]*half/);
  });

  test("shows tables as data, figures as image and as chart", async () => {
    await sandbox.files.write("/home/user/sales.csv", "author,sold\nAda,3\nBob,5\n");
    const table = await sandbox.runCode("import pandas\nsales = pandas.read_csv('sales.csv')\nsales");
    expect(table.results[0]?.data as unknown).toEqual({ author: ["Ada", "Bob"], sold: [3, 5] });
    expect(table.results[0]?.html).toContain("<table");
    const code =
      "import matplotlib.pyplot as plt\nplt.bar(sales.author, sales.sold)\nplt.title('Sold')\nplt.xlabel('who')\nplt.show()";
    const gaps = await sandbox.runCode("pandas.DataFrame({'at': [pandas.Timestamp('2030-01-02'), pandas.NaT]})");
    expect(gaps.results[0]?.data as unknown).toEqual({ at: ["2030-01-02T00:00:00", null] });
    const [figure] = (await sandbox.runCode(code)).results.slice(-1);
    expect(figure?.png?.startsWith("iVBOR")).toBe(true);
    expect(figure?.chart).toMatchObject({ type: "bar", title: "Sold", x_label: "who" });
    expect(figure?.chart?.elements).toMatchObject([
      { label: "Ada", value: 3 },
      { label: "Bob", value: 5 },
    ]);
  });

  test("shows a picture that is saved, as there is no screen", async () => {
    const { results } = await sandbox.runCode("from PIL import Image\nImage.new('RGB', (2, 2)).save('/tmp/dots.png')");
    expect(results[0]?.png?.startsWith("iVBOR")).toBe(true);
  });

  test("runs JavaScript with await and imports, a cell again", async () => {
    const cell =
      "  import { posix as paths } from 'node:path'\n  const a = await Promise.resolve(20);\n  [paths.join('a', 'b'), a * 2]";
    for (const _ of [1, 2]) {
      const { text, error } = await sandbox.runCode(cell, { language: "javascript" });
      expect([text, error]).toEqual(["[ 'a/b', 40 ]", undefined]);
    }
    const { error } = await sandbox.runCode("throw new TypeError('bad')", { language: "js" });
    expect([error?.name, error?.value]).toEqual(["TypeError", "bad"]);
  });

  test("runs TypeScript, whose types are taken away", async () => {
    const code =
      "interface Point { x: number }\nconst at: Point = { x: 20 }\nenum Side { Left, Right }\nat.x + (Side.Right as number)";
    expect((await sandbox.runCode(code, { language: "ts" })).text).toBe("21");
  });

  test("runs Bash, with variables", async () => {
    const { logs } = await sandbox.runCode("word=kept; echo $GIVEN $OWN", {
      language: "bash",
      envs: { OWN: "two words" },
    });
    expect(logs.stdout.join("")).toBe("at the creation two words\n");
    expect((await sandbox.runCode("echo $word", { language: "bash" })).logs.stdout.join("")).toBe("kept\n");
  });

  test("runs R, with variables and the sandbox's folder", async () => {
    const { results } = await sandbox.runCode("y <- 6 * 7; paste(Sys.getenv('GIVEN'), getwd(), y)", { language: "r" });
    expect(results[0]?.text).toBe('[1] "at the creation /home/user 42"');
    const { error } = await sandbox.runCode("stop('no')", { language: "r" });
    expect(error?.value).toContain("no");
  });

  test("has contexts of their own, which can be listed, restarted and removed", async () => {
    const context = await sandbox.createCodeContext({ cwd: "/root" });
    expect((await sandbox.runCode("import os\ny = 1\nos.getcwd()", { context })).text).toBe("/root");
    expect((await sandbox.runCode("y")).error?.name).toBe("NameError");
    expect((await sandbox.listCodeContexts()).map(({ id }) => id)).toContain(context.id);
    await sandbox.restartCodeContext(context);
    expect((await sandbox.runCode("y", { context })).error?.name).toBe("NameError");
    await sandbox.removeCodeContext(context);
    await expect(sandbox.runCode("1", { context })).rejects.toThrow();
  });

  test("interrupts code whose client is gone, and goes on with what was defined", async () => {
    const endless = sandbox.runCode("import time\nwhile True: time.sleep(0.1)", { timeoutMs: 1_500 });
    await expect(endless).rejects.toThrow();
    expect((await sandbox.runCode("x")).text).toBe("41");
  });

  test("a kernel that dies says so, and the next cell has a new one", async () => {
    const context = await sandbox.createCodeContext({});
    await sandbox.runCode("import os\nos._exit(3)", { context });
    expect((await sandbox.runCode("1 + 1", { context })).text).toBe("2");
    await sandbox.removeCodeContext(context);
  });

  test("a service that was killed is there again", async () => {
    const other = await Sandbox.create(connection);
    await other.commands.run("kill -9 $(pgrep -of server/main.py)", { user: "root" });
    const answer = () => other.runCode("1 + 1").then(({ text }) => text === "2");
    await until("an answer", () => answer().catch(() => false), { withinMs: freezeMs, everyMs: 500 });
    await other.kill();
  });

  test("goes on after a pause where it was", async () => {
    await sandbox.pause();
    sandbox = await Sandbox.connect(sandbox.sandboxId, connection);
    expect((await sandbox.runCode("x")).text).toBe("41");
    await sandbox.kill();
  });
});

vm(`the published clients for Python${why}`, () => {
  test("of the E2B code interpreter runs its documented examples", async () => {
    const { apiKey, apiUrl, sandboxUrl } = connection;
    const variables = { E2B_API_KEY: apiKey, E2B_API_URL: apiUrl, E2B_SANDBOX_URL: sandboxUrl };
    const printed = await python(await e2bPython(), [`${repository}test/e2b/interpreter.py`], variables);
    expect(JSON.parse(printed)).toEqual({ failures: {}, passed: expect.any(Number) });
  });

  test("of Wrenn runs code in the template code-runner-beta", async () => {
    const found = await pythonWith("wrenn==0.3.0");
    if ("missing" in found) return console.log(`skipped: ${found.missing}`);
    const { url, apiKey } = system.ready;
    const variables = {
      ...{ WRENN_API_KEY: apiKey, WRENN_BASE_URL: url },
      WRENN_PROXY_DOMAIN: `localhost:${new URL(url).port}`, // what the client makes of an address has no names below it
    };
    expect(await python(found.path, [`${repository}test/e2b/code-runner.py`], variables)).toContain("all is well");
  });
});
