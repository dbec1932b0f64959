// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of builds are written like this
import { describe, expect, test } from "bun:test";
import { compilePlan } from "../../src/services/builds/actions.ts";
import { readCheck, readRecipe } from "../../src/services/builds/recipe.ts";
import { readSteps } from "../../src/services/builds/steps.ts";

const recipe = (lines: string[], more: { healthcheck?: string; archive?: string; isBare?: boolean } = {}) =>
  readRecipe({ base: "minimal", lines, isBare: true, ...more });

const world = {
  base: async () => ({
    ...{ key: "base", name: "minimal", digest: "sha256:0" },
    defaults: { user: "root", workdir: "/root", env: { LANG: "C" } },
  }),
  digest: async () => "content",
};

describe("a recipe", () => {
  test("reads every instruction, whatever the case of its word", async () => {
    const plan = recipe(
      [
        "run --timeout=2m make",
        "ENV DIR=/srv/$$x/${LANG}",
        "WORKDIR $DIR",
        "USER dev",
        "COPY a b/ out",
        "START ./serve",
      ],
      { archive: "c0ffee" },
    );
    const [stage] = await compilePlan(plan, world);
    expect(stage!.actions).toMatchObject([
      { act: "run", argv: ["/bin/sh", "-c", "make"], timeoutSec: 120, user: "root", cwd: "/root" },
      { act: "folder", path: "/srv/$x/C" },
      { act: "account", name: "dev" },
      { act: "copy", sources: ["a", "b/"], target: "/srv/$x/C/out/", owner: "dev", intoNamedFolder: true },
      { act: "start", argv: ["/bin/sh", "-c", "./serve"], user: "dev", env: { DIR: "/srv/$x/C" } },
    ]);
    expect(stage!.defaults).toEqual({ user: "dev", workdir: "/srv/$x/C", env: { LANG: "C", DIR: "/srv/$x/C" } });
  });

  test("has the usual first and last steps unless it is bare", () => {
    const [stage] = recipe(["RUN true"], { isBare: false }).stages;
    expect(stage!.instructions.map((one) => one.do)).toEqual(["run", "user", "workdir", "run", "run"]);
  });

  test.each([
    [["RUN true", ""], 2, "empty"],
    [["FETCH x"], 1, "not an instruction"],
    [["RUN --retries=3 x"], 1, "--retries is not a flag"],
    [["RUN --timeout=soon x"], 1, "no duration"],
    [["ENV A B"], 1, "no KEY=VALUE"],
    [["USER 1abc"], 1, "no user name"],
    [["COPY a"], 1, "a source and a target"],
    [["COPY ../a b"], 1, "outside the archive"],
    [["RUN"], 1, "needs a value"],
  ])("%j is refused when it is submitted", (lines, line, message) => {
    expect(() => recipe(lines, { archive: "c0ffee" })).toThrow(`line ${line}: `);
    expect(() => recipe(lines, { archive: "c0ffee" })).toThrow(message);
  });

  test("a check has flags and their defaults", () => {
    expect(readCheck("curl localhost")).toMatchObject({ intervalSec: 3, timeoutSec: 10, startSec: 0, retries: 0 });
    expect(readCheck("--interval=5s --timeout=5s --start-period=1m --retries=5 curl x")).toMatchObject({
      ...{ intervalSec: 5, timeoutSec: 5, startSec: 60, retries: 5, command: { shell: "curl x" } },
    });
    expect(() => readCheck("--often=1 curl")).toThrow("--often is not a flag");
    expect(() => readCheck("--interval=5s")).toThrow("no command");
  });
});

describe("what a step depends on", () => {
  const keys = async (lines: string[], content = "content") =>
    (await compilePlan(recipe(lines, { archive: "x" }), { ...world, digest: async () => content })).map(({ actions }) =>
      actions.map(({ key }) => key),
    )[0]!;

  test("is everything before it, and nothing after it", async () => {
    const [one, two] = [await keys(["RUN a", "RUN b", "RUN c"]), await keys(["RUN a", "RUN b", "RUN d"])];
    expect(one.slice(0, 2)).toEqual(two.slice(0, 2));
    expect(one[2]).not.toBe(two[2]);
  });

  test("is its user, folder and environment", async () => {
    const [plain] = (await keys(["RUN a"])).slice(-1);
    for (const before of ["ENV A=1", "WORKDIR /x", "USER dev"])
      expect((await keys([before, "RUN a"])).at(-1)).not.toBe(plain);
  });

  test("is the content of what is copied", async () => {
    expect(await keys(["COPY a /b"], "one")).not.toEqual(await keys(["COPY a /b"], "two"));
  });
});

describe("steps of the E2B protocol", () => {
  const from = { kind: "template", name: "base" } as const;

  test("run as the user `user` until they say otherwise, and take values literally", async () => {
    const steps = [
      { type: "RUN", args: ["apt-get update", "root"] },
      { type: "ENV", args: ["A", "$HOME", "B", "2"] },
      { type: "COPY", args: ["src", "/app", "", "0755"], filesHash: "abc" },
      { type: "RUN", args: ["whoami"] },
    ];
    const [stage] = await compilePlan(readSteps({ from, steps, startCmd: "serve", readyCmd: "true" }), world);
    expect(stage!.actions).toMatchObject([
      { act: "account", name: "user", isHidden: true },
      { act: "run", step: 1, user: "root" },
      { act: "copy", step: 2, owner: "user", mode: 0o755, target: "/app" },
      { act: "run", step: 3, user: "user", cwd: "/home/user", env: { A: "$HOME", B: "2" } },
    ]);
  });

  test("give a ready command the time that it waits by itself", () => {
    const { ready } = readSteps({ from, steps: [], startCmd: "serve", readyCmd: "sleep 20" });
    expect(ready!.timeoutSec).toBeGreaterThan(600);
  });

  test.each([
    ["folder/*", ["folder"]],
    ["src/**/*.ts", ["src"]],
    ["*.json", ["."]],
    ["a/{b,c}/d.txt", ["a"]],
    ["./conf.d/[ab].ini", ["./conf.d"]],
  ])(
    "a pattern such as %s takes all of its archive into a folder, though no slash says so",
    async (source, sources) => {
      const steps = [{ type: "COPY", args: [source, "into", "", ""], filesHash: "abc" }];
      const [stage] = await compilePlan(readSteps({ from, steps }), world);
      expect(stage!.actions).toContainEqual(
        expect.objectContaining({ act: "copy", sources, target: "/home/user/into/", intoNamedFolder: false }),
      );
    },
  );

  test.each([
    [{ type: "FETCH", args: ["x"] }, "not known"],
    [{ type: "RUN", args: [] }, "needs 1 arguments"],
    [{ type: "ENV", args: ["A", "1", "B"] }, "name without a value"],
    [{ type: "COPY", args: ["a", "b"] }, "no uploaded files"],
  ])("%j is refused", (step, message) => {
    expect(() => readSteps({ from, steps: [step] })).toThrow(message);
  });
});
