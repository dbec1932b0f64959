/** Makes an image of a container, and renews the agent in one: the two scripts for images that `make images` does not build. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { $ } from "bun";

setDefaultTimeout(120_000);

const repository = new URL("..", import.meta.url).pathname;
const guest = `${repository}builds/guest`;
const isRoot = process.getuid?.() === 0;
const why = !existsSync(`${guest}/inject`)
  ? "run `make images`"
  : !isRoot && !Bun.which("fakeroot")
    ? "neither root nor fakeroot"
    : undefined;
const whyNotMounted =
  why ??
  (isRoot && existsSync("/dev/loop-control")
    ? undefined
    : "only root mounts a file system, where there are loop devices");
const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

let dir: string;
let image: string;

/** Answers `docker` as far as the script asks; the tar it exports is one that a real engine would write. */
const standIn = (tar: string, inspected: object) => `#!/bin/sh
case "$1 $2" in
"container inspect") [ "$3" = tools ] || exit 1; echo '${JSON.stringify([inspected])}' ;;
"export --output") [ "$4" = tools ] && cp '${tar}' "$3" ;;
*) exit 1 ;;
esac
`;

beforeAll(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-container-`);
  image = `${dir}/wrenn/images/tools`;
  if (why) return;
  const files = `${dir}/files`;
  for (const folder of ["bin", "etc", "app"]) await mkdir(`${files}/${folder}`, { recursive: true });
  await $`cp ${guest}/root/usr/local/lib/wrenn/busybox ${files}/bin/sh`;
  await writeFile(`${files}/etc/passwd`, "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/app:/bin/sh\n");
  await writeFile(`${files}/app/note`, "from the container\n");
  await chmod(`${files}/app/note`, 0o4755);
  const owners = ["--owner=app:1234", "--group=app:1234", "--numeric-owner"];
  await $`tar -cf ${dir}/root.tar ${owners} -C ${files} .`;
  await mkdir(`${dir}/bin`);
  const Config = { User: "app:app", WorkingDir: "/app", Env: ["WORD=of the container", "EMPTY="] };
  await writeFile(`${dir}/bin/docker`, standIn(`${dir}/root.tar`, { Config }));
  await chmod(`${dir}/bin/docker`, 0o755);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function script(name: string, ...args: string[]): Promise<{ code: number; said: string }> {
  const env = { ...process.env, PATH: `${dir}/bin:${PATH}`, WRENN_IMAGE_MIB: "600" };
  const run = Bun.spawn([`${repository}scripts/${name}`, ...args], { env, stdout: "pipe", stderr: "pipe" });
  const said = await new Response(run.stderr).text();
  return { code: await run.exited, said };
}

async function inImage(command: string): Promise<string> {
  return await $`debugfs -R ${command} ${image}/rootfs.ext4`
    .env({ ...process.env, PATH })
    .quiet()
    .text();
}

const titled = (title: string, reason = why) => (reason ? `${title} — skipped: ${reason}` : title);
const check = why ? test.skip : test;

describe("scripts/rootfs-from-container.sh, with a stand-in for the engine", () => {
  check(titled("makes an image with the container's files, user, folder and environment"), async () => {
    const { code, said } = await script("rootfs-from-container.sh", "tools", "tools", `${dir}/wrenn`);
    expect([code, said]).toEqual([0, expect.stringContaining("wrenn create -t tools")]);
    expect(said).toContain("warning: the image has no git: git commands of clients fail");
    const facts = await Bun.file(`${image}/image.json`).json();
    expect(facts).toMatchObject({ name: "tools", defaultUser: "app", defaultWorkdir: "/app" });
    expect(facts.env).toEqual({ WORD: "of the container", EMPTY: "" });
    expect(await inImage("cat /app/note")).toBe("from the container\n");
    expect(await inImage("stat /app/note")).toMatch(/Mode: {2}04755[\s\S]*User: {2}1234/);
    expect(await inImage("stat /usr/local/lib/wrenn/envd")).toContain("Mode:  0755");
  });

  check(titled("refuses a container that there is not, and a bad name, and leaves nothing"), async () => {
    const unknown = await script("rootfs-from-container.sh", "other", "other", `${dir}/wrenn`);
    expect([unknown.code, unknown.said]).toEqual([1, expect.stringContaining('no container "other" is known')]);
    const named = await script("rootfs-from-container.sh", "tools", "../x", `${dir}/wrenn`);
    expect([named.code, named.said]).toEqual([1, expect.stringContaining("is no name of a template")]);
    expect((await readdir(`${dir}/wrenn/images`)).filter((name) => name !== ".lock")).toEqual(["tools"]);
  });
});

describe("scripts/update-minimal-rootfs.sh", () => {
  const mounts = whyNotMounted ? test.skip : test;
  mounts(titled("renews the agent and leaves everything else as it is", whyNotMounted), async () => {
    const before = await Bun.file(`${image}/image.json`).json();
    await writeFile(`${dir}/old`, "an agent of long ago\n");
    const change = "rm /usr/local/lib/wrenn/envd\nwrite old /usr/local/lib/wrenn/envd\nrm /usr/local/lib/wrenn/tini\n";
    await writeFile(`${dir}/change`, change);
    await $`debugfs -w -f ${dir}/change ${image}/rootfs.ext4`
      .cwd(dir)
      .env({ ...process.env, PATH })
      .quiet();
    expect(await inImage("cat /usr/local/lib/wrenn/envd")).toBe("an agent of long ago\n");
    const { code, said } = await script("update-minimal-rootfs.sh", image);
    expect([code, said]).toEqual([0, expect.stringContaining("publishing")]);
    const size = Bun.file(`${guest}/root/usr/local/lib/wrenn/envd`).size;
    expect(await inImage("stat /usr/local/lib/wrenn/envd")).toMatch(new RegExp(`Mode: {2}0755[\\s\\S]*Size: ${size}`));
    expect(await inImage("stat /usr/local/lib/wrenn/tini")).toContain("Mode:  0755");
    expect(await inImage("cat /app/note")).toBe("from the container\n");
    const { digest, createdAt, ...facts } = await Bun.file(`${image}/image.json`).json();
    expect({ ...facts, digest: before.digest, createdAt: before.createdAt }).toEqual(before);
    expect(digest).not.toBe(before.digest);
    expect((await readdir(`${dir}/wrenn/images`)).filter((name) => name !== ".lock")).toEqual(["tools"]);
  });

  mounts(titled("says what is wrong with what is no image", whyNotMounted), async () => {
    const { code, said } = await script("update-minimal-rootfs.sh", `${dir}/none`);
    expect([code, said]).toEqual([1, expect.stringContaining("there is no image in")]);
  });
});
