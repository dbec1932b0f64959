import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { $ } from "bun";
import { Sandbox as E2bSandbox, Template } from "e2b";
import { type BuildInfo, type BuildOptions, Sandbox } from "wrenn";
import { nothingLeft, System, wrennProgram } from "../support/system.ts";

let system: System;
let folder: string;

beforeAll(async () => {
  system = await System.start("templates");
  folder = `${system.dir}/project`;
  await mkdir(`${folder}/site`, { recursive: true });
  await writeFile(`${folder}/site/index.html`, "served from the template\n");
  await writeFile(`${folder}/secret.txt`, "stays here\n");
  await writeFile(`${folder}/.dockerignore`, "secret.txt\n");
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

async function wrenn(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = Bun.spawn([wrennProgram, ...args], { cwd: folder, env: system.env, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

async function built(name: string, options: BuildOptions): Promise<BuildInfo & { log: string[] }> {
  const { builds } = system.client;
  const { id } = await builds.start(name, options);
  const log: string[] = [];
  const lines = builds.follow(id, { requestTimeoutMs: 0 });
  for (;;) {
    const next = await lines.next();
    if (next.done) return { ...next.value, log };
    log.push(`${next.value.stream}: ${next.value.message}`);
  }
}

/** What a command prints in a new sandbox of a template. */
async function inSandbox(template: string, command: string): Promise<string> {
  await using sandbox = await Sandbox.create({ client: system.client, template });
  return (await sandbox.commands.run(command)).stdout;
}

const dockerfile = (extra = "") => `FROM minimal AS tools
RUN mkdir /out && echo made >/out/tool
FROM base
USER root
ENV SITE=/srv/site
COPY --from=tools /out/tool /usr/local/share/
COPY --chown=user . /srv
${extra}WORKDIR /srv
USER user
CMD python3 -m http.server --directory $SITE 8000
HEALTHCHECK --interval=200ms CMD curl -sf localhost:8000
`;

describe("wrenn template build", () => {
  test("ends in a template whose sandboxes serve at once, as the Dockerfile says", async () => {
    await writeFile(`${folder}/Dockerfile`, dockerfile());
    const first = await wrenn("template", "build", ".", "-t", "site:v1");
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toContain("site, site:v1");
    expect(first.stderr).toContain("[2/5]");
    const script = "curl -s localhost:8000; id -un; pwd; ls /srv; cat /usr/local/share/tool";
    expect(await inSandbox("site:v1", script)).toBe("served from the template\nuser\n/srv\nDockerfile\nsite\nmade\n");
  });

  test("does only what changed the next time", async () => {
    const same = await wrenn("template", "build", ".", "-t", "site");
    expect(same.stderr.match(/\(cached\)/g)).toHaveLength(4);
    await writeFile(`${folder}/Dockerfile`, dockerfile("RUN echo more\n"));
    const changed = await wrenn("template", "build", ".", "-t", "site");
    expect(changed.stderr).toMatch(/COPY --from=tools \/out\/tool \/usr\/local\/share\/ \(cached\)/);
    expect(changed.stderr).toContain("  more\n");
  });

  test("names the line of what fails and keeps the version before", async () => {
    await writeFile(`${folder}/Dockerfile`, "FROM base\nRUN true\nRUN apt-get update --no-such-option\n");
    const { code, stderr } = await wrenn("template", "build", ".", "-t", "site");
    expect(code).toBe(1);
    expect(stderr).toContain("error: line 3: failed to run command 'apt-get update --no-such-option': exit status 100");
    expect(stderr).toContain("write USER root");
    expect((await system.client.builds.template("site")).current?.status).toBe("success");
  });
});

test("a secret is there for its step alone, and in no file, disk layer, memory, log or database afterwards", async () => {
  const secret = `token-${crypto.randomUUID()}`;
  await writeFile(`${folder}/token`, `${secret}\n`);
  const reads = "set -e; cat /run/secrets/token; test $TOKEN = $(cat /root/.npmrc); expr 6 \\* 7";
  const mounts = "--mount=type=secret,id=token --mount=type=secret,id=token,target=/root/.npmrc,env=TOKEN";
  await writeFile(`${folder}/Dockerfile`, `FROM minimal\nRUN ${mounts} ${reads}\nRUN echo next\n`);
  const missing = await wrenn("template", "build", ".", "-t", "hidden");
  expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining("error: line 2: ")]);
  const built = await wrenn("template", "build", ".", "-t", "hidden", "--secret", "id=token,src=token");
  expect(built).toMatchObject({ code: 0 });
  expect(built.stderr).toContain("  42\n");
  expect(built.stderr).not.toContain(secret);
  expect(built.stderr).toContain("  ***\n");
  expect(await inSandbox("hidden", "ls -a /run/secrets /root | grep -E 'token|npmrc'; echo looked")).toBe("looked\n");
  // Disk layers and memory of every step's result and of the template, the database, logs.
  const places = ["layers", "snapshots", "bases", "sandboxes", "journals", "postgres", "logs"];
  const paths = places.map((name) => `${system.dir}/${name}`);
  expect(paths.filter((path) => !existsSync(path))).toEqual([]);
  const found = await $`grep -rlaF ${secret} ${paths}`.nothrow();
  expect(found.stdout.toString()).toBe("");
});

test("a recipe makes its user, captures its environment and starts its program", async () => {
  const build = await built("recipe", {
    ...{ baseTemplate: "base", healthcheck: "--interval=200ms --retries=50 test -e /tmp/up" },
    recipe: [
      "USER dev",
      "WORKDIR /home/dev/app",
      "ENV APP=$HOME/app",
      "RUN sudo id -un",
      "START touch /tmp/up; sleep 1d",
    ],
  });
  expect(build).toMatchObject({ status: "success" });
  expect(build.log).toContain("stdout: root");
  expect(await inSandbox("recipe", "id -un; pwd; echo $APP; pgrep -x sleep >/dev/null && echo up")).toBe(
    "dev\n/home/dev/app\n/home/dev/app\nup\n",
  );
});

test("a snapshot of a running sandbox, and a template of ours, are what others begin with: their programs run on", async () => {
  {
    await using sandbox = await system.create();
    await sandbox.commands.run("echo before >/srv/note; (sleep 1d; :) & disown; export LOST=1", { user: "root" });
    await sandbox.checkpoint({ name: "moment" });
  }
  const first = await built("of-moment", {
    dockerfile: "FROM moment\nUSER root\nRUN cat /srv/note; echo built >>/srv/note\n",
  });
  expect([first.error, first.log]).toEqual([undefined, expect.arrayContaining(["stdout: before"])]);
  const second = await built("of-template", { recipe: ["RUN pgrep -x sleep >/tmp/pid"], baseTemplate: "of-moment" });
  expect(second.error).toBeUndefined();
  expect(await inSandbox("of-template", "cat /srv/note; pgrep -x sleep | cmp - /tmp/pid && echo same")).toBe(
    "before\nbuilt\nsame\n",
  );
});

describe("a build that goes wrong", () => {
  test("by processes without end is over when its time is, and leaves nothing", async () => {
    const bomb = await built("bomb", {
      recipe: ["RUN f() { f | f & }; f; sleep 60"],
      ...{ baseTemplate: "minimal", timeoutMs: 15_000 },
    });
    expect(bomb).toMatchObject({ status: "failed", error: { message: "the build did not end within 15 s" } });
    expect((await Sandbox.list({ client: system.client })).length).toBe(0);
  }, 120_000);

  test("by filling its disk says at which line", async () => {
    const full = await built("full", { dockerfile: "FROM minimal\nRUN fallocate -l 100G /big || exit 28\n" });
    expect(full).toMatchObject({ status: "failed", error: { line: 2 } });
    expect(full.log.join("\n")).toContain("No space left on device");
  });
});

test("the E2B template builder builds, with its files, and its sandboxes start from the result", async () => {
  const connection = {
    apiKey: `e2b_${system.ready.apiKey.replace(/^wrn_/, "")}`,
    apiUrl: system.ready.url,
    sandboxUrl: system.ready.url,
  };
  const template = Template({ fileContextPath: folder })
    .fromTemplate("base")
    .setEnvs({ WORD: "kept" })
    .copy("site", "/app/")
    .setWorkdir("/app")
    .runCmd(["whoami", "cat index.html"]);
  const said: string[] = [];
  const info = await Template.build(template, "e2b-built:v1", {
    ...{ ...connection, cpuCount: 1, memoryMB: 512 },
    onBuildLogs: ({ message }) => void said.push(message),
  });
  expect(said).toContain("user");
  expect(said).toContain("served from the template");
  expect(await Template.exists("e2b-built", connection)).toBe(true);
  expect((await Template.getTags(info.templateId, connection)).map(({ tag }) => tag).sort()).toEqual(["default", "v1"]);
  const sandbox = await E2bSandbox.create("e2b-built:v1", connection);
  expect((await sandbox.commands.run("pwd; echo $WORD; id -un")).stdout).toBe("/app\nkept\nuser\n");
  await sandbox.kill();
  const bad = Template().fromTemplate("base").setUser("root123").runCmd("whoami");
  const failed = Template.build(bad, "e2b-bad", { ...connection, cpuCount: 1, memoryMB: 512 });
  await expect(failed).rejects.toThrow(
    "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'",
  );
});
