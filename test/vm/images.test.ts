import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { $ } from "bun";
import { pack } from "tar-stream";
import { type BuildOptions, Sandbox } from "wrenn";
import { Registry } from "../support/registry.ts";
import { nothingLeft, repository, System, wrennProgram } from "../support/system.ts";

// Images are imported by root only, as the owners of their files are kept.
const why = process.getuid!() === 0 ? "" : " (skipped: the host agent must be root)";
const vm = why === "" ? describe : describe.skip;

const busybox = `${repository}builds/guest/root/usr/local/lib/wrenn/busybox`;
const account = { username: "reader", password: "open sesame" };
let system: System;
let registry: Registry;

beforeAll(async () => {
  if (why) return;
  registry = await Registry.start(account);
  system = await System.start("images", {
    WRENN_GUEST_DIR: `${repository}builds/guest`,
    WRENN_REGISTRIES: registry.address,
  });
});

afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

const accounts = [
  { name: "etc/passwd", text: "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/data:/bin/sh\n" },
  { name: "etc/group", text: "root:x:0:\napp:x:1234:\n" },
];
const tools = ["sh", "ls", "cat", "id", "stat", "chown", "sleep"].map((name) => ({
  name: `bin/${name}`,
  link: "busybox",
}));

async function build(name: string, options: BuildOptions): Promise<string> {
  const { builds } = system.client;
  const { id } = await builds.start(name, { registry: account, ...options });
  const lines: string[] = [];
  for await (const { message } of builds.follow(id, { requestTimeoutMs: 0 })) lines.push(message);
  const { status, error } = await builds.get(id);
  return status === "success" ? lines.join("\n") : `failed: ${error?.message}`;
}

async function inSandbox(template: string, command: string): Promise<string> {
  await using sandbox = await Sandbox.create({ client: system.client, template });
  return (await sandbox.commands.run(command)).stdout;
}

vm(`an image of a registry${why}`, () => {
  test("of BusyBox keeps owners, set-uid bits and hard links; what a later layer removes is gone", async () => {
    await registry.make("busy", {
      layers: [
        [
          ...accounts,
          ...tools,
          { name: "bin/busybox", from: busybox, mode: 0o755 },
          { name: "data/own", text: "kept\n", uid: 1234, mode: 0o4755 },
          { name: "data/old", text: "old\n" },
          { name: "data/sub/old", text: "old\n" },
        ],
        [{ name: "data/.wh.old" }, { name: "data/sub/.wh..wh..opq" }, { name: "data/sub/new", text: "new\n" }],
      ],
      config: ["--config.user=1234", "--config.workingdir=/data", "--config.env=WORD=of the image"],
    });
    const log = await build("busy", { from: await registry.push("busy") });
    expect(log).toContain("pulling");
    expect(await inSandbox("busy", "id -un; pwd; echo $WORD; ls /data /data/sub; stat -c '%a %U' own")).toBe(
      "app\n/data\nof the image\n/data:\nown\nsub\n\n/data/sub:\nnew\n4755 app\n",
    );
  });

  test("is the same by digest, and in an index with images of other processors", async () => {
    const reference = await registry.push("busy");
    const digest = await registry.digestOf("busy");
    const byDigest = await build("by-digest", { from: `${reference.replace(/:1$/, "")}@${digest}` });
    const byIndex = await build("by-index", { from: await registry.pushIndex("busy") });
    for (const log of [byDigest, byIndex]) expect(log).not.toMatch(/pulling|failed/);
    const made = await Promise.all(
      ["busy", "by-digest", "by-index"].map((name) => system.client.builds.template(name)),
    );
    expect(made.map(({ current }) => current?.from.map((one) => one.digest))).toEqual([[digest], [digest], [digest]]);
    expect(await inSandbox("by-index", "id -un")).toBe("app\n");
  });

  test("of a private registry is shown to nobody without its account", async () => {
    const from = await registry.push("busy");
    for (const other of [undefined, { ...account, password: "guessed" }])
      expect(await build("stranger", { from, registry: other })).toMatch(/failed: .*does not let .* be read/);
  });

  test("that claims to be another is not taken for it", async () => {
    await registry.make("other", { layers: [[{ name: "a", text: crypto.randomUUID() }]] });
    await registry.push("other");
    const claimed = await registry.pushChanged("other", (own) => ({ ...own, layers: [...own.layers, ...own.layers] }));
    expect(await build("claimed", { from: claimed })).toMatch(/failed: /);
  });

  test("is made once: the next build begins at once, and builds on it with a Dockerfile", async () => {
    const reference = await registry.push("busy");
    const dockerfile = `FROM ${reference}\nUSER root\nWORKDIR /srv\nCOPY <<EOF note\nwritten by the build\nEOF\nRUN chown app /data/sub\nUSER app\nCMD echo as $(id -un) in $PWD >/data/sub/started; sleep 1d\n`;
    const log = await build("on-busy", { dockerfile, memoryMiB: 384 });
    expect(log).not.toContain("pulling");
    expect(await inSandbox("on-busy", "id -un; cat note")).toBe("app\nwritten by the build\n");
  });

  test("is a file that another installation imports, with what it starts", async () => {
    const file = `${system.dir}/on-busy.tar`;
    const run = async (...args: string[]) => {
      const child = Bun.spawn([wrennProgram, "template", ...args], { env: system.env, stdout: "pipe", stderr: "pipe" });
      const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
      expect([await child.exited, said]).toEqual([0, expect.any(String)]);
      return said;
    };
    expect(await run("export", "on-busy", "-o", file)).toContain(file);
    await run("import", file, "-t", "imported:v1");
    const { current } = await system.client.builds.template("imported");
    expect(current).toMatchObject({ vcpus: 1, memoryMiB: 384, defaults: { user: "app", workdir: "/srv" } });
    expect(await inSandbox("imported:v1", "id -un; cat note; cat /data/sub/started; echo $WORD")).toBe(
      "app\nwritten by the build\nas app in /srv\nof the image\n",
    );
  });

  test("without a shell or any tool works all the same", async () => {
    await registry.make("empty", { layers: [[{ name: "etc/passwd", text: "root:x:0:0::/:/none\n" }]] });
    expect(await build("empty", { from: await registry.push("empty") })).not.toContain("failed");
    expect(await inSandbox("empty", "echo alive")).toBe("alive\n");
  });

  test("comes from a layout and from what docker save writes too, and is the same", async () => {
    await $`skopeo copy --quiet oci:${`${registry.layout}:busy`} docker-archive:${registry.dir}/saved.tar:saved:1`.quiet();
    await $`skopeo copy --quiet oci:${`${registry.layout}:busy`} oci:${registry.dir}/alone:1`.quiet();
    for (const [name, path] of [
      ["saved", `${registry.dir}/saved.tar`],
      ["laid", `${registry.dir}/alone`],
    ]) {
      const command = [wrennProgram, "template", "build", "--from", path!, "-t", name!];
      const run = Bun.spawn(command, { env: system.env, stdout: "pipe", stderr: "pipe" });
      const said = await new Response(run.stderr).text();
      expect([await run.exited, said]).toEqual([0, expect.stringContaining("reading the archive")]);
      expect(said).toContain("template (cached)");
      expect(await inSandbox(name!, "cat own")).toBe("kept\n");
    }
  });

  test("that is not there, or whose layer is damaged, is refused with the reason", async () => {
    expect(await build("none", { from: `${registry.address}/test/none:1` })).toContain("there is no image");
    await registry.make("damaged", { layers: [[{ name: "a", text: crypto.randomUUID() }]] });
    const reference = await registry.push("damaged");
    const blobs = `${registry.dir}/data/docker/registry/v2/blobs/sha256`;
    const { stdout } = await $`find ${blobs} -name data -newer ${registry.dir}/damaged-0.tar -size -400c`.quiet();
    for (const path of stdout.toString().trim().split("\n")) {
      const text = await Bun.file(path).bytes();
      if (text[0] === 0x1f) await $`printf damaged | dd of=${path} bs=1 seek=20 conv=notrunc`.quiet(); // a layer, in gzip
    }
    expect(await build("damaged", { from: reference })).toMatch(/failed: .*what the registry sent is not sha256:/);
  });

  test("that tries to write outside of itself writes nothing there", async () => {
    const writer = pack();
    writer.entry({ name: "../../../../../../../../tmp/wrenn-escaped-1" }, "x");
    writer.entry({ name: "out", type: "symlink", linkname: "/tmp" });
    writer.entry({ name: "out/wrenn-escaped-2" }, "x");
    writer.entry({ name: "up", type: "symlink", linkname: "../../../../../../../../../tmp" });
    writer.entry({ name: "up/wrenn-escaped-3" }, "x");
    writer.finalize();
    const chunks: Uint8Array[] = [];
    for await (const chunk of writer) chunks.push(chunk as Uint8Array);
    await registry.make("hostile", { layers: [accounts] });
    await registry.addTar("hostile", Buffer.concat(chunks));
    await build("hostile", { from: await registry.push("hostile") });
    expect((await readdir("/tmp")).filter((name) => name.startsWith("wrenn-escaped"))).toEqual([]);
    const left = await readdir(`${system.dir}/imported`);
    expect(left.filter((name) => !name.startsWith("oci-"))).toEqual([]);
  });
});
