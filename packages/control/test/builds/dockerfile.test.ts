// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of builds are written like this
import { describe, expect, test } from "bun:test";
import { WrennError } from "@wrenn/contract";
import { readDockerfile, type Source } from "../../src/services/builds/dockerfile.ts";
import { words } from "../../src/services/builds/words.ts";

const templates = new Set(["minimal", "base"]);
const read = (text: string, more: Partial<Source> = {}) =>
  readDockerfile({ text, args: {}, context: "c0ffee", isTemplate: (name) => templates.has(name), ...more });

function refusal(text: string, more: Partial<Source> = {}): WrennError {
  try {
    read(text, more);
  } catch (thrown) {
    if (thrown instanceof WrennError) return thrown;
    throw thrown;
  }
  throw new Error("it was not refused");
}

describe("a Dockerfile", () => {
  test("becomes stages of instructions with their lines", () => {
    const { stages } = read(
      '# a comment\nFROM minimal AS tools\nRUN make \\\n  all\nFROM base\nCOPY --from=tools --chown=1:2 --chmod=755 /out /bin/x\nENV A=1 B="two words"\n',
    );
    expect(stages.map(({ name, from }) => [name, from])).toEqual([
      ["tools", { kind: "template", name: "minimal" }],
      ["", { kind: "template", name: "base" }],
    ]);
    expect(stages[0]!.instructions).toMatchObject([{ do: "run", line: 3, command: { shell: "make   all" } }]);
    expect(stages[1]!.instructions).toMatchObject([
      { do: "copy", line: 6, from: { kind: "stage", index: 0 }, sources: ["/out"], owner: "1:2", mode: 0o755 },
      {
        do: "env",
        line: 7,
        pairs: [
          ["A", "1"],
          ["B", '"two words"'],
        ],
      }, // prettier-ignore
    ]);
  });

  test("names that are no template are images, earlier stages come first", () => {
    const { stages } = read("ARG V=3.12\nFROM python:$V-slim AS Base\nFROM base\nFROM base AS x\nFROM x\n");
    expect(stages.map(({ from }) => from)).toEqual([
      { kind: "image", reference: "python:3.12-slim" },
      { kind: "stage", index: 0 },
      { kind: "stage", index: 0 },
      { kind: "stage", index: 2 },
    ]);
  });

  test("ENTRYPOINT and CMD become the start command, an earlier stage's too", () => {
    expect(read('FROM base\nENTRYPOINT ["serve"]\nCMD ["-p", "80"]\n').start).toEqual({ argv: ["serve", "-p", "80"] });
    expect(read("FROM base\nCMD sleep 1\n").start).toEqual({ shell: "sleep 1" });
    expect(read('FROM base AS a\nCMD ["x"]\nFROM a\nENTRYPOINT ["y"]\n').start).toEqual({ argv: ["y"] });
    expect(read("FROM base\n").start).toBeUndefined();
  });

  test("HEALTHCHECK becomes the ready check", () => {
    const { ready } = read("FROM base\nHEALTHCHECK --interval=500ms --retries=4 CMD curl -f localhost\n");
    expect(ready).toEqual({
      ...{ command: { shell: "curl -f localhost" }, intervalSec: 0.5, timeoutSec: 10, startSec: 0, retries: 4 },
    });
  });

  test("a here-document is a script, or a file", () => {
    const { stages } = read("FROM base\nRUN <<EOF\nset -e\necho hi\nEOF\nCOPY <<END /etc/motd\nhello\nEND\n");
    expect(stages[0]!.instructions).toMatchObject([
      { do: "run", command: { shell: "set -e\necho hi\n" } },
      { do: "copy", from: { kind: "text", text: "hello\n" }, target: "/etc/motd" },
    ]);
  });

  test.each([
    ["FROM base\nONBUILD RUN x\n", 2, "ONBUILD is not supported"],
    ["FROM base\nRUN --mount=type=ssh true\n", 2, "type=ssh is not supported"],
    ["FROM base\nRUN --mount=type=secret true\n", 2, "a secret has no id"],
    ["FROM base\nRUN --mount=type=secret,id=x,target=here true\n", 2, '"here" is not absolute'],
    ["RUN x\nFROM base\n", 1, "before the first FROM"],
    ["FROM scratch\n", 1, "scratch is not supported"],
    ["FROM base\nCOPY a b c\n", 2, "needs a folder"],
    ["FROM base\nCOPY ../secret /\n", 2, "outside the build's folder"],
    ["FROM base\nADD https://example.org/x /x\n", 2, "an address is not supported"],
    ["FROM base\nCOPY --from=later /x /x\nFROM base AS later\n", 2, 'no stage "later"'],
    ["FROM base AS a\nCOPY --from=a /x /x\n", 2, 'no stage "a"'],
    ["FROM base\nCOPY --parents a b\n", 2, "--parents is not supported"],
    ["FROM base\nSHELL bash\n", 2, "not a JSON array"],
    ["FROM --platform=linux/arm64 base\n", 1, "linux/arm64 does not run here"],
    ["FROM base\nENV A\n", 2, "not NAME=VALUE"],
    ["FROM base\nCOPY --chmod=u+x a b\n", 2, "--chmod=u+x is not supported"],
  ])("%j is refused with its line before anything runs", (text, line, message) => {
    const error = refusal(text);
    expect(error.code).toBe("invalid_request");
    expect(error.message).toContain(message);
    expect(error.details?.line).toBe(String(line));
    expect(error.remedy).toBeTruthy();
  });

  test("without an uploaded folder COPY is refused; without FROM everything is", () => {
    expect(refusal("FROM base\nCOPY a b\n", { context: undefined }).message).toContain("nothing to copy from");
    expect(refusal("# nothing\n").message).toContain("no FROM");
    expect(refusal("FROM base AS a\n", { target: "b" }).message).toContain('no stage "b"');
  });

  test("instructions without effect are told, not refused", () => {
    expect(read("FROM base\nEXPOSE 80\nLABEL a=b\n").warnings.map(({ line }) => line)).toEqual([2, 3]);
  });
});

describe("words", () => {
  const variables = { A: "1", EMPTY: "", PATH: "/bin" };
  test.each([
    ["$A ${A}x", ["1", "1x"]],
    ["'$A' \"$A b\"", ["$A", "1 b"]],
    ["${B:-two} ${A:-two} ${EMPTY:-three} ${EMPTY-four}", ["two", "1", "three", ""]],
    ["${A:+set} ${B:+set}", ["set", ""]],
    ["\\$A a\\ b", ["$A", "a b"]],
    ["/opt:$PATH $", ["/opt:/bin", "$"]],
    ["${B:-${A}}", ["1"]],
  ])("%j", (text, expected) => {
    expect(words(text, variables)).toEqual(expected);
  });

  test.each(["'open", '"open', "${A", "${A!b}", "${NONE:?needed}"])("%j is refused", (text) => {
    expect(() => words(text, variables)).toThrow();
  });
});
