import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, cp, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { $ } from "bun";
import { Sandbox } from "wrenn";
import { Registry } from "../support/registry.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

/**
 * Root file systems of other distributions, as far as their packages can be had from Debian's mirror: each is served by a
 * registry, built, frozen, started, and asked something that only its own programs know. BusyBox and an empty image are in
 * images.test.ts, Debian 12 in every other test.
 */
const why = !process.env.WRENN_FULL
  ? " (skipped: takes minutes; set WRENN_FULL=1)"
  : process.getuid!() === 0
    ? ""
    : " (skipped: the host agent must be root)";
const vm = why === "" ? describe : describe.skip;

const guest = `${repository}builds/guest/root/usr/local/lib/wrenn`;
const mirror = process.env.WRENN_DEBIAN_MIRROR?.split(" ")[0] ?? "";
let system: System;
let registry: Registry;
let work: string;

beforeAll(async () => {
  if (why) return;
  work = await mkdtemp(`${tmpdir()}/wrenn-distributions-`);
  registry = await Registry.start();
  const env = { WRENN_GUEST_DIR: `${repository}builds/guest`, WRENN_REGISTRIES: registry.address };
  system = await System.start("distributions", env, ["minimal"]);
});
afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
  if (work) await rm(work, { recursive: true, force: true });
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** A release of Debian, from its packages. */
async function debian(suite: string, ...options: string[]): Promise<string> {
  const root = `${work}/${suite}-${crypto.randomUUID()}`;
  const keyring = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg";
  const slim = ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"];
  const from = mirror ? [mirror] : [];
  await $`mmdebstrap --mode=root ${keyring} ${slim} ${options} ${suite} ${root} ${from}`.quiet();
  return root;
}

/** Debian's C library, Python and time zones; no shell, no package manager, nothing else. */
async function distroless(): Promise<string> {
  const root = await debian("bookworm", "--variant=extract", "--include=python3-minimal,tzdata");
  for (const name of await readdir(`${root}/usr/bin`))
    if (!name.startsWith("python3")) await rm(`${root}/usr/bin/${name}`, { force: true });
  for (const path of ["bin", "sbin"]) await rm(`${root}/${path}`, { recursive: true, force: true });
  await rm(`${root}/usr/sbin`, { recursive: true, force: true });
  return root;
}

/** What Alpine is made of: musl, BusyBox, no bash; with a program that the compiler here links with musl. */
async function musl(): Promise<string> {
  const root = `${work}/musl`;
  for (const folder of ["bin", "lib", "etc", "usr/bin"]) await mkdir(`${root}/${folder}`, { recursive: true });
  await cp(`${guest}/busybox`, `${root}/bin/busybox`);
  await chmod(`${root}/bin/busybox`, 0o755);
  for (const name of ["sh", "cat", "ls", "id"]) await symlink("busybox", `${root}/bin/${name}`);
  await cp("/lib/x86_64-linux-musl/libc.so", `${root}/lib/ld-musl-x86_64.so.1`);
  await writeFile(`${root}/etc/os-release`, "ID=alpine\n");
  await writeFile(`${root}/etc/passwd`, "root:x:0:0:root:/root:/bin/sh\n");
  // Prints the loader that the kernel gave it.
  const source =
    '#include <stdio.h>\n#include <string.h>\nint main(void) { char l[4096]; FILE *m = fopen("/proc/self/maps", "r");\n' +
    'while (fgets(l, sizeof l, m)) if (strstr(l, "ld-musl")) { puts("runs on musl"); return 0; } return 1; }\n';
  await writeFile(`${work}/which.c`, source);
  await $`musl-gcc -o ${root}/usr/bin/which-libc ${work}/which.c`.quiet();
  return root;
}

/** Debian's files where Arch has them: every program in /usr/bin, every library in /usr/lib. */
async function likeArch(): Promise<string> {
  const root = await debian("bookworm", "--variant=essential");
  await cp(`${root}/usr/sbin`, `${root}/usr/bin`, { recursive: true, verbatimSymlinks: true, force: false });
  await rm(`${root}/usr/sbin`, { recursive: true });
  await symlink("bin", `${root}/usr/sbin`);
  for (const name of ["bin", "sbin"]) await rm(`${root}/${name}`, { recursive: true });
  for (const name of ["bin", "sbin"]) await symlink("usr/bin", `${root}/${name}`);
  for (const name of await readdir(`${root}/usr/lib64`))
    await rename(`${root}/usr/lib64/${name}`, `${root}/usr/lib/${name}`);
  await rm(`${root}/usr/lib64`, { recursive: true });
  await symlink("lib", `${root}/usr/lib64`);
  await rm(`${root}/lib64`, { recursive: true });
  await symlink("usr/lib", `${root}/lib64`);
  return root;
}

const kinds = [
  {
    ...{ name: "Debian 13", make: () => debian("trixie", "--variant=minbase") },
    ...{ command: ". /etc/os-release; echo $VERSION_ID; dpkg -s libc6 | grep -c 'ok installed'", says: "13\n1\n" },
  },
  {
    ...{ name: "Debian 11, whose /bin and /usr/bin are two folders", command: ". /etc/os-release; echo $VERSION_ID" },
    ...{ make: () => debian("bullseye", "--variant=minbase", "--no-merged-usr"), says: "11\n" },
  },
  {
    ...{ name: "Python without a distribution around it", make: distroless },
    ...{ command: "/usr/bin/python3.11 -c 'print(6 * 7)'; ls /usr/bin/apt 2>/dev/null; echo no", says: "42\nno\n" },
  },
  {
    ...{ name: "musl and BusyBox, as Alpine", make: musl },
    ...{
      command: ". /etc/os-release; echo $ID; which-libc; busybox readlink /bin/ls",
      says: "alpine\nruns on musl\nbusybox\n",
    },
  },
  {
    ...{ name: "programs and libraries where Arch has them", make: likeArch },
    ...{ command: "readlink /usr/sbin /bin; chroot --version | head -c 6", says: "bin\nusr/bin\nchroot" },
  },
] as const;

vm(`an image of${why}`, () => {
  for (const { name, make, command, says } of kinds)
    test(`${name} becomes a template whose sandboxes run its programs`, async () => {
      const tag = name
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, "-")
        .slice(0, 30)
        .replace(/-$/, "");
      const root = await make();
      await registry.makeOf(tag, root);
      await rm(root, { recursive: true, force: true });
      const { id } = await system.client.builds.start(tag, { from: await registry.push(tag) });
      const lines: string[] = [];
      for await (const { message } of system.client.builds.follow(id, { requestTimeoutMs: 0 })) lines.push(message);
      expect([lines.join("\n"), (await system.client.builds.get(id)).status]).toEqual([expect.any(String), "success"]);
      await using sandbox = await Sandbox.create({ client: system.client, template: tag });
      expect((await sandbox.commands.run(command)).stdout).toBe(says);
      await sandbox.pause();
      await sandbox.resume();
      expect((await sandbox.commands.run("echo again")).stdout).toBe("again\n");
    }, 900_000);
});
