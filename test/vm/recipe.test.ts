import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { $ } from "bun";
import { Sandbox } from "wrenn";
import { nothingLeft, System } from "../support/system.ts";

/** What the original ships as its sample: a Jupyter server in a virtual environment (Wrenn templates reference, 1.5). */
const why = process.env.WRENN_FULL ? "" : " (skipped: takes minutes; set WRENN_FULL=1)";
const vm = why === "" ? describe : describe.skip;
const port = 8888;
/** Jupyter's hundred packages are unpacked and loaded in a guest that may be emulated. */
const buildMs = 20 * 60_000;

let system: System;

beforeAll(async () => {
  if (!why) system = await System.start("recipe", {}, ["base"]);
});
afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Wheels for the guest's Python, sent as the recipe's archive: a guest need not reach a package registry for this. */
async function wheels(): Promise<string> {
  const folder = `${system.dir}/archive`;
  await mkdir(`${folder}/wheels`, { recursive: true });
  const platforms = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"];
  const target = platforms.flatMap((platform) => ["--platform", platform]);
  await $`python3 -m pip download --quiet --dest ${folder}/wheels --only-binary=:all: --python-version 3.11 --implementation cp ${target} jupyter-server ipykernel`.quiet();
  const archive = `${system.dir}/wheels.tar`;
  await $`tar -cf ${archive} -C ${folder} wheels`.quiet();
  const content = new Uint8Array(await Bun.file(archive).arrayBuffer());
  const digest = new Bun.CryptoHasher("sha256").update(content).digest("hex");
  await system.client.builds.upload(digest, () => content);
  return digest;
}

vm(`the original's sample recipe${why}`, () => {
  test(
    "builds: every sandbox of it has a Jupyter server at work, which starts kernels",
    async () => {
      const { builds } = system.client;
      const { id } = await builds.start("code-runner", {
        baseTemplate: "base",
        files: await wheels(),
        recipe: [
          "COPY wheels wheels",
          "RUN --timeout=5m python3 -m venv venv",
          "RUN --timeout=15m venv/bin/pip install --no-index --find-links wheels jupyter-server ipykernel",
          `START venv/bin/jupyter server --ip=0.0.0.0 --port=${port} --no-browser --IdentityProvider.token= --ServerApp.disable_check_xsrf=True`,
        ],
        healthcheck: `--interval=5s --timeout=5s --start-period=60s --retries=5 curl -sf http://localhost:${port}/api/status`,
        timeoutMs: buildMs,
      });
      const log: string[] = [];
      const lines = builds.follow(id, { requestTimeoutMs: 0 });
      let next = await lines.next();
      for (; !next.done; next = await lines.next()) log.push(next.value.message);
      expect({ ...next.value, log: log.slice(-20) }).toMatchObject({ status: "success" });

      await using sandbox = await Sandbox.create({ client: system.client, template: "code-runner" });
      const asked = (path: string, ...args: string[]) =>
        sandbox.commands.exec("curl", ["-s", ...args, `http://localhost:${port}${path}`]).then(({ stdout }) => stdout);
      expect(JSON.parse(await asked("/api/status"))).toHaveProperty("kernels");
      const made = await asked("/api/kernels", "--json", '{"name": "python3"}');
      expect(JSON.parse(made)).toMatchObject({ name: "python3" });
      expect((await sandbox.commands.run("id -un; pwd")).stdout).toBe("user\n/home/user\n");
    },
    buildMs + 120_000,
  );
});
