import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Sandbox } from "wrenn";
import type { Context, Suite } from "../context.ts";
import { end } from "../lib/processes.ts";
import { timed } from "../measure.ts";
import { installed, readyLine, root } from "../world.ts";

/** `wrenn up`: everything started, until it says that it is ready. Ends every sandbox, so it runs last. */
export const up: Suite = {
  name: "up",
  pledges: [
    {
      ...{ id: "up-second", text: "`wrenn up` on a folder used before, until ready", unit: "s" },
      ...{ better: "lower", target: { absolute: 10 } },
    },
    {
      ...{ id: "up-first", text: "`make up` in a fresh clone, with nothing in any cache, until ready", unit: "s" },
      ...{ better: "lower", target: { absolute: 240 } },
    },
  ],
  async run(context) {
    if (context.wants("up-second")) await second(context);
    if (context.first && context.wants("up-first")) await first(context);
  },
};

async function second(context: Context): Promise<void> {
  const world = await context.world();
  for (const { id } of await Sandbox.list({ client: world.client })) await Sandbox.kill(id, { client: world.client });
  const values: number[] = [];
  for (let run = 0; run < context.runs(5); run++) {
    await world.down();
    values.push((await world.up()) / 1000);
  }
  context.keep("up-second", { values });
}

/** The steps of `make up`, one by one, so that each is told of. System packages are those that stand here already. */
async function first(context: Context): Promise<void> {
  const clone = await mkdtemp(`${tmpdir()}/wrenn-first-`);
  await mkdir(installed, { recursive: true, mode: 0o755 });
  const dir = await mkdtemp(`${installed}/first-`);
  const env = {
    ...process.env,
    WRENN_DIR: dir,
    XDG_CONFIG_HOME: `${clone}/.cache/config`,
    ...{ BUN_INSTALL_CACHE_DIR: `${clone}/.cache/bun`, npm_config_cache: `${clone}/.cache/npm` },
  };
  const step = async (title: string, command: string[]) => {
    const seconds = (await timed(() => finished(command, { cwd: clone, env }))) / 1000;
    context.say(`${title}: ${seconds.toFixed(1)} s`);
    return seconds;
  };
  try {
    await finished(["git", "clone", "--quiet", root, clone], { cwd: "/", env });
    const build = await step("dependencies and programs", ["make", "--silent", "build"]);
    const images = await step("images", ["make", "--silent", "images"]);
    const started = performance.now();
    const child = Bun.spawn([`${clone}/builds/wrenn`, "up", "--json", "--listen", "127.0.0.1:0"], {
      ...{ cwd: clone, env, stdio: ["ignore", "pipe", "inherit"] },
    });
    const ready = await readyLine(child.stdout);
    const start = (performance.now() - started) / 1000;
    await end(child, 60_000);
    if (ready === undefined) throw new Error("the first start ended before it was ready");
    const note = `Dependencies and programs ${build.toFixed(0)} s, images ${images.toFixed(0)} s, start ${start.toFixed(1)} s.`;
    context.keep("up-first", { values: [build + images + start], note });
  } finally {
    await rm(clone, { recursive: true, force: true });
    await rm(dir, { recursive: true, force: true });
  }
}

async function finished(command: string[], { cwd, env }: { cwd: string; env: NodeJS.ProcessEnv }): Promise<void> {
  const child = Bun.spawn(command, { cwd, env, stdio: ["ignore", "ignore", "pipe"] });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed: ${said.trim().slice(-2000)}`);
}
