/** Checks the images that are built on this machine, without starting one; what needs no image is checked in any case. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { gunzipSync } from "bun";
import { sparseDigest } from "./digest.ts";

/** Digests read gigabytes and shellcheck is slow: on a busy machine both take longer than the default of 5 s. */
setDefaultTimeout(120_000);

const here = new URL(".", import.meta.url).pathname;
const home = process.env.XDG_DATA_HOME ?? `${homedir()}/.local/share`;
const dir = process.env.WRENN_DIR ?? (process.getuid?.() === 0 ? "/var/lib/wrenn" : `${home}/wrenn`);
const built = ["minimal", "base"].filter((name) => existsSync(`${dir}/images/${name}/image.json`));
const reason = `skipped: no images in ${dir}; run \`make images\``;

const scratch = mkdtempSync(`${tmpdir()}/wrenn-images-`);
afterAll(() => rmSync(scratch, { recursive: true }));

/** Runs one debugfs request on an image; debugfs only reads, so an image in use is safe. */
function debugfs(image: string, request: string): string {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  const run = Bun.spawnSync(["debugfs", "-R", request, `${dir}/images/${image}/rootfs.ext4`], {
    env: { ...process.env, PATH: path },
  });
  return run.stdout.toString();
}

/** "0755 0:0" of a path in an image, or what debugfs says when it is not there. */
function modeOf(image: string, path: string): string {
  const text = debugfs(image, `stat ${path}`);
  const part = (pattern: RegExp) => pattern.exec(text)?.[1];
  return text ? `${part(/Mode:\s+(\d+)/)} ${part(/User:\s+(\d+)/)}:${part(/Group:\s+(\d+)/)}` : "absent";
}

const namesIn = (image: string, folder: string) =>
  [...debugfs(image, `ls -p ${folder}`).matchAll(/^\/\d+\/\d+\/\d+\/\d+\/([^/]+)\//gm)].map((match) => match[1]!);

describe("digest of a sparse file", () => {
  const file = (name: string, write: (path: string) => void) => {
    const path = `${scratch}/${name}`;
    write(path);
    return path;
  };
  const content = Buffer.alloc(3 << 20);
  content.write("data", 2 << 20);

  test("zeros that are written and zeros that are holes are the same", async () => {
    const full = file("full", (path) => writeFileSync(path, content));
    const sparse = file("sparse", (path) => {
      writeFileSync(path, "");
      truncateSync(path, content.length);
      const run = Bun.spawnSync(["dd", `if=${full}`, `of=${path}`, "conv=sparse,notrunc", "bs=64K", "status=none"]);
      expect(run.exitCode).toBe(0);
    });
    expect(statSync(sparse).blocks).toBeLessThan(statSync(full).blocks);
    expect(await sparseDigest(sparse)).toBe(await sparseDigest(full));
  });

  test("a changed byte, a moved block and a longer file are different", async () => {
    const changed = Buffer.from(content).fill("D", 2 << 20, (2 << 20) + 1);
    const moved = Buffer.alloc(content.length);
    moved.write("data", 1 << 20);
    const longer = Buffer.concat([content, Buffer.alloc(1)]);
    const all = [content, changed, moved, longer].map((bytes, i) =>
      file(`v${i}`, (path) => writeFileSync(path, bytes)),
    );
    const digests = await Promise.all(all.map(sparseDigest));
    expect(new Set(digests).size).toBe(4);
  });
});

describe("publishing", () => {
  const publish = (folder: string) =>
    Bun.spawnSync([
      process.execPath,
      `${here}publish.ts`,
      folder,
      `${scratch}/demo`,
      `${here}templates/minimal/image.json`,
    ]);
  const make = (name: string, content: string) => {
    const folder = `${scratch}/${name}`;
    Bun.spawnSync(["mkdir", folder]);
    writeFileSync(`${folder}/rootfs.ext4`, content);
    return folder;
  };

  test("the first build takes the name; the second is exchanged with it and leaves the old one to be removed", async () => {
    expect(publish(make("first", "one")).exitCode).toBe(0);
    expect(publish(make("second", "two")).exitCode).toBe(0);
    expect(readFileSync(`${scratch}/demo/rootfs.ext4`, "utf8")).toBe("two");
    expect(readFileSync(`${scratch}/second/rootfs.ext4`, "utf8")).toBe("one");
    const image = await Bun.file(`${scratch}/demo/image.json`).json();
    expect(image).toMatchObject({ name: "demo", sizeBytes: 3, defaultUser: "root" });
    expect(image.digest).toBe(await sparseDigest(`${scratch}/demo/rootfs.ext4`));
  });
});

describe("build.sh", () => {
  test("a template that does not exist is refused with the names there are", () => {
    const run = Bun.spawnSync([`${here}build.sh`, "--dir", `${scratch}/none`, "nonsense"], { stderr: "pipe" });
    expect(run.exitCode).toBe(1);
    expect(run.stderr.toString()).toContain("Templates: base code-interpreter minimal");
    expect(existsSync(`${scratch}/none`)).toBe(false);
  });

  const hasShellcheck = Bun.which("shellcheck") !== null;
  const title = "the scripts are clean for shellcheck";
  test.skipIf(!hasShellcheck)(hasShellcheck ? title : `${title} — skipped: shellcheck is not installed`, () => {
    const scripts = [
      ..."build archive ext4 guest inject lib debian kernel/fetch kernel/build".split(" ").map((name) => `${name}.sh`),
    ];
    const others = [
      "init/wrenn-init",
      "kernel/initrd-init",
      ...["base", "code-interpreter"].flatMap((name) => [`templates/${name}/setup`, `templates/${name}/fetch`]),
    ];
    const run = Bun.spawnSync(["shellcheck", "-x", "-P", `${here}..`, ...scripts, ...others], { cwd: here });
    expect(run.stdout.toString()).toBe("");
  });
});

describe("kernels", () => {
  const kernels = existsSync(`${dir}/kernels`) ? readdirSync(`${dir}/kernels`) : [];
  const initrds = kernels.filter((name) => name.startsWith("initrd-"));
  const check = initrds.length > 0 ? test : test.skip;
  const titled = (title: string) => (initrds.length > 0 ? title : `${title} — ${reason}`);

  check(titled("each is an ELF that can be entered directly (note XEN_ELFNOTE_PHYS32_ENTRY)"), () => {
    for (const name of kernels.filter((name) => name.startsWith("vmlinux-")))
      expect(noteTypes(readFileSync(`${dir}/kernels/${name}`)), name).toContain(18);
  });

  check(titled("an initramfs is small and loads virtio_ring before virtio, failover before the network driver"), () => {
    for (const name of initrds) {
      const packed = readFileSync(`${dir}/kernels/${name}`);
      expect(packed.length).toBeLessThanOrEqual(1.5 * 2 ** 20);
      expect(existsSync(`${dir}/kernels/vmlinux-${name.slice("initrd-".length)}`)).toBe(true);
      const found = Buffer.from(gunzipSync(packed))
        .toString("latin1")
        .matchAll(/modules\/\d\d-([\w-]+)\.ko\0/g);
      const modules = [...found].map((match) => match[1]!);
      const wanted = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net"];
      expect(modules.filter((module) => wanted.includes(module))).toEqual(wanted);
    }
  });
});

/** Types of the notes in the PT_NOTE segments of a 64-bit ELF (System V ABI, "Program Header", "Note Section"). */
function noteTypes(elf: Buffer): number[] {
  const types: number[] = [];
  const [table, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  for (let i = 0; i < count; i++) {
    const header = table + i * size;
    if (elf.readUInt32LE(header) !== 4) continue;
    let at = Number(elf.readBigUInt64LE(header + 8));
    const end = at + Number(elf.readBigUInt64LE(header + 32));
    while (at < end) {
      const align = (bytes: number) => Math.ceil(bytes / 4) * 4;
      types.push(elf.readUInt32LE(at + 8));
      at += 12 + align(elf.readUInt32LE(at)) + align(elf.readUInt32LE(at + 4));
    }
  }
  return types;
}

const modes: Record<string, string> = {
  "/": "0755 0:0",
  "/root": "0700 0:0",
  "/tmp": "01777 0:0",
  "/etc/shadow": "0640 0:42",
  "/etc/sudoers": "0440 0:0",
  "/usr/bin/sudo": "04755 0:0",
  "/usr/bin/passwd": "04755 0:0",
  "/usr/bin/tini": "0755 0:0",
  "/usr/local/lib/wrenn": "0755 0:0",
  "/usr/local/lib/wrenn/envd": "0755 0:0",
  "/usr/local/lib/wrenn/init": "0755 0:0",
};
const modesOfBase = { "/home/user": "0755 1000:1000", "/etc/sudoers.d/user": "0440 0:0", "/usr/bin/git": "0755 0:0" };

describe.each(["minimal", "base"])("image %s", (name) => {
  const check = built.includes(name) ? test : test.skip;
  const titled = (title: string) => (built.includes(name) ? title : `${title} — ${reason}`);
  const folder = `${dir}/images/${name}`;

  check(titled("image.json tells the digest and the size of the file beside it"), async () => {
    const image = await Bun.file(`${folder}/image.json`).json();
    const user = name === "base" ? "user" : "root";
    expect(image).toMatchObject({ name, defaultUser: user, sizeBytes: statSync(`${folder}/rootfs.ext4`).size });
    expect(image.digest).toBe(await sparseDigest(`${folder}/rootfs.ext4`));
    expect(Number.isNaN(Date.parse(image.createdAt))).toBe(false);
  });

  check(titled("owners, modes and setuid bits are those of a real installation"), () => {
    const wanted = name === "base" ? { ...modes, ...modesOfBase } : modes;
    const found = Object.keys(wanted).map((path) => [path, modeOf(name, path)]);
    expect(Object.fromEntries(found)).toEqual(wanted);
  });

  check(titled("nothing of the building machine and no cache is left"), () => {
    expect(debugfs(name, "cat /etc/hostname")).toBe("wrenn\n");
    for (const path of ["/etc/resolv.conf", "/etc/machine-id"]) expect(debugfs(name, `cat ${path}`)).toBe("");
    expect(namesIn(name, "/var/lib/apt/lists").filter((entry) => entry.includes("Packages"))).toEqual([]);
    expect(namesIn(name, "/var/cache/apt/archives").filter((entry) => entry.endsWith(".deb"))).toEqual([]);
    expect(namesIn(name, "/usr/share/man").filter((entry) => entry.startsWith("man"))).toEqual([]);
    expect(modeOf(name, "/wrenn-setup")).toBe("absent");
  });

  check(titled("a login shell without a terminal starts no program"), () => {
    expect(debugfs(name, "cat /etc/profile")).toMatch(/^if \[ "\$\{EUID:-/m);
    expect(debugfs(name, "cat /root/.profile")).toMatch(/^\[ ! -t 0 \] \|\| mesg n/m);
  });

  check(titled("the guest's kernel has nothing to initialise in the background"), () => {
    const run = Bun.spawnSync(["sh", "-c", `PATH=$PATH:/usr/sbin dumpe2fs '${folder}/rootfs.ext4' 2>/dev/null`]);
    const groups = run.stdout.toString().match(/^Group \d+:.*$/gm) ?? [];
    expect(groups.length).toBeGreaterThan(0);
    expect(groups.filter((line) => !line.includes("ITABLE_ZEROED"))).toEqual([]);
  });
});
