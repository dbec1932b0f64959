import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BuildLogLine } from "wrenn";
import { contextFiles, packContext } from "../src/template/context.ts";
import { BuildProgress } from "../src/template/progress.ts";
import { interrupted, interruptible } from "../src/template/upload.ts";

/** What a screen shows of what was written to it; a line that was erased is gone. */
class Screen {
  text = "";
  constructor(readonly isTTY: boolean) {}

  write = (text: string): boolean => {
    this.text += text;
    return true;
  };

  get lines(): string[] {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are not looked at
    const plain = this.text.replace(/\x1b\[\d+m/g, "");
    return plain.split("\n").map((line) => line.split("\r\x1b[2K").at(-1)!);
  }
}

const logged = (...lines: [BuildLogLine["stream"], string][]): BuildLogLine[] =>
  lines.map(([stream, message], seq) => ({ seq, at: new Date(), step: 1, stream, message }));

const log = logged(["step", "RUN make"], ["stdout", "compiling"], ["stdout", "\u001b[2Jevil"], ["done", "1.2 s"]);

function shown(screen: Screen, isQuiet: boolean, lines: readonly BuildLogLine[]): string[] {
  using progress = new BuildProgress(isQuiet, screen);
  progress.expect(3);
  for (const line of lines) progress.line(line);
  return screen.lines;
}

describe("the progress of a build", () => {
  test("is lines alone where nobody looks at a terminal", () => {
    expect(shown(new Screen(false), false, log)).toEqual([
      ...["[1/3] RUN make", "  compiling", "  \ufffd[2Jevil", "      1.2 s", ""],
    ]);
  });

  test("ends on a terminal with what is under way, which is gone at the end", () => {
    const screen = new Screen(true);
    expect(shown(screen, false, log.slice(0, 2))).toEqual(["[1/3] RUN make", "  compiling", "  running"]);
    expect(screen.lines).toEqual(["[1/3] RUN make", "  compiling", ""]);
  });

  test("says what it waits for before its first step", () => {
    expect(shown(new Screen(true), false, [])).toEqual(["  waiting for its turn"]);
  });

  test("leaves out what steps print when asked to, but of the step that fails", () => {
    expect(shown(new Screen(false), true, log)).toEqual(["[1/3] RUN make", "      1.2 s", ""]);
    const failed = logged(["step", "RUN make"], ["stderr", "no rule"], ["error", "line 2: exit status 2"]);
    expect(shown(new Screen(false), true, failed)).toEqual(["[1/3] RUN make", "  no rule", ""]);
  });
});

describe("a build's folder", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wrenn-folder-"));
    await mkdir(`${folder}/node_modules/left`, { recursive: true });
    for (const name of ["Dockerfile", "a.log", "keep.log", "node_modules/left/x", "node_modules/y"])
      await writeFile(`${folder}/${name}`, name);
    await writeFile(`${folder}/.dockerignore`, "# what a build has no use for\n*.log\n!keep.log\nnode_modules\n");
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("is what .dockerignore leaves", async () => {
    expect(await contextFiles(folder)).toEqual([".dockerignore", "Dockerfile", "keep.log"]);
  });

  test("packs to the same bytes each time", async () => {
    const { signal } = new AbortController();
    await using one = await packContext(folder, { signal });
    await using other = await packContext(folder, { signal });
    expect([other.sha256, other.files]).toEqual([one.sha256, 3]);
  });

  test("that Ctrl-C comes into leaves no file, and ends as a shell expects it", async () => {
    const { TMPDIR } = process.env;
    const temporary = await mkdtemp(join(tmpdir(), "wrenn-interrupted-"));
    process.env.TMPDIR = temporary;
    try {
      await writeFile(`${folder}/large`, Buffer.alloc(64 * 2 ** 20));
      const work = interruptible((signal) => packContext(folder, { signal }));
      while ((await readdir(temporary)).length === 0) await Bun.sleep(1);
      process.emit("SIGINT");
      await expect(work).rejects.toMatchObject({ exitCode: interrupted });
      expect(await readdir(temporary)).toEqual([]);
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
      await rm(temporary, { recursive: true });
    }
  });
});
