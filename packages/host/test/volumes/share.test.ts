import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import type { VolumeCall, VolumeRequest } from "@wrenn/contract";
import { Share } from "../../src/volumes/share.ts";
import { Tree } from "../../src/volumes/tree.ts";

const { ENOENT, EEXIST, EINVAL, ELOOP, ENOSPC, ENOTEMPTY, EIO, EXDEV } = constants.errno;

let dir: string;
let share: Share;
let hasRoom = true;
beforeAll(() => {
  dir = mkdtempSync(`${tmpdir()}/wrenn-share-`);
});
beforeEach(() => {
  rmSync(`${dir}/volume`, { recursive: true, force: true });
  mkdirSync(`${dir}/volume`);
  writeFileSync(`${dir}/secret`, "of the host");
  share = new Share(new Tree(`${dir}/volume`), () => hasRoom);
  hasRoom = true;
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const who = { uid: process.getuid!(), gid: process.getgid!() };
const ask = (call: VolumeCall, { body = "", again = false } = {}) =>
  share.answer({ ...call, id: 1, mount: "/m", again }, Buffer.from(body));
const create = (path: string, more: { exclusive?: boolean; truncate?: boolean } = {}) =>
  ask({ op: "create", path, exclusive: false, truncate: false, mode: 0o644, ...who, ...more });
const mkdir = (path: string, again = false) => ask({ op: "mkdir", path, mode: 0o755, ...who }, { again });

test("files are made, written where they are said to be, read, listed, renamed, linked and removed", async () => {
  expect((await mkdir("d")).attributes?.mode).toBe(0o40755);
  expect((await create("d/f")).attributes).toMatchObject({ mode: 0o100644, size: 0, nlink: 1 });
  expect(await ask({ op: "write", path: "d/f", offset: 3 }, { body: "text" })).toEqual({});
  expect((await ask({ op: "read", path: "d/f", offset: 2, size: 4 })).body?.toString()).toBe("\0tex");
  expect((await ask({ op: "read", path: "d/f", offset: 99, size: 4 })).body).toHaveLength(0);
  expect((await ask({ op: "link", path: "d/f", to: "g" })).attributes?.nlink).toBe(2);
  expect(await ask({ op: "rename", path: "d/f", to: "d/h", keep: false })).toEqual({});
  expect(await ask({ op: "rename", path: "d/h", to: "g", keep: true })).toEqual({ errno: EEXIST });
  expect((await ask({ op: "list", path: "d" })).names?.map(([name]) => name).sort()).toEqual([".", "..", "h"]);
  expect((await ask({ op: "symlink", path: "l", target: "../secret", mode: 0o777, ...who })).attributes?.size).toBe(9);
  expect(await ask({ op: "readlink", path: "l" })).toEqual({ target: "../secret" });
  const change = { op: "change", path: "g", mode: 0o600, size: 1, mtimeMs: 9_000 } as const;
  expect((await ask(change)).attributes).toMatchObject({ mode: 0o100600, size: 1, mtimeMs: 9_000 });
  expect(await ask({ op: "rmdir", path: "d" })).toEqual({ errno: ENOTEMPTY });
  expect(await ask({ op: "unlink", path: "d/h" })).toEqual({});
  expect(await ask({ op: "rmdir", path: "d" })).toEqual({});
  expect(await ask({ op: "stat", path: "d" })).toEqual({ errno: ENOENT });
  expect(await ask({ op: "sync", path: "g" })).toEqual({});
  expect((await ask({ op: "space", path: "" })).space?.blockBytes).toBeGreaterThan(0);
  expect(await create("g", { exclusive: true })).toEqual({ errno: EEXIST });
  expect((await create("g", { truncate: true })).attributes?.size).toBe(0);
});

test("no path leads out: neither by .., nor by a link at its end or on its way, nor by one laid meanwhile", async () => {
  symlinkSync("../secret", `${dir}/volume/link`);
  symlinkSync("..", `${dir}/volume/up`);
  symlinkSync("/", `${dir}/volume/root`);
  for (const path of ["../secret", "a/../../secret", "/etc/passwd", "a//b", ".", "a\0b"])
    for (const op of ["stat", "list", "unlink", "sync"] as const)
      expect(await ask({ op, path })).toEqual({ errno: EINVAL });
  for (const path of ["up/secret", "root/etc/passwd"])
    for (const call of [
      { op: "stat", path },
      { op: "read", path, offset: 0, size: 9 },
      { op: "write", path, offset: 0 },
      { op: "unlink", path },
      { op: "change", path, mode: 0o777 },
      { op: "rename", path, to: "in", keep: false },
      { op: "link", path, to: "in" },
    ] as const)
      expect([ELOOP, EXDEV]).toContain((await ask(call, { body: "gone" })).errno!);
  expect((await ask({ op: "read", path: "link", offset: 0, size: 9 })).errno).toBe(ELOOP);
  expect((await ask({ op: "write", path: "link", offset: 0 }, { body: "gone" })).errno).toBe(ELOOP);
  expect((await create("link")).errno).toBe(ELOOP);
  expect((await ask({ op: "change", path: "link", mode: 0o777 })).errno).toBe(EINVAL);
  expect((await ask({ op: "change", path: "link", size: 0 })).errno).toBe(ELOOP);
  expect((await ask({ op: "rename", path: "link", to: "up/out", keep: false })).errno).toBe(ELOOP);
  expect(readFileSync(`${dir}/secret`, "utf8")).toBe("of the host");
  expect(existsSync(`${dir}/out`)).toBe(false);
  await ask({ op: "change", path: "link", ...who, mtimeMs: 5_000 });
  expect([lstatSync(`${dir}/volume/link`).mtimeMs, statSync(`${dir}/secret`).mtimeMs > 5_000]).toEqual([5_000, true]);
  expect((await ask({ op: "list", path: "" })).names?.find(([name]) => name === "..")?.[1]).toBe(
    statSync(`${dir}/volume`).ino,
  );
});

test("no file becomes a privileged program of the host, and none but files are read and written", async () => {
  await create("f");
  expect((await ask({ op: "change", path: "f", mode: 0o6755 })).attributes?.mode).toBe(0o100755);
  await Bun.$`mkfifo ${dir}/volume/pipe`.quiet();
  expect(await ask({ op: "read", path: "pipe", offset: 0, size: 1 })).toEqual({ errno: EINVAL });
  expect((await ask({ op: "write", path: "pipe", offset: 0 }, { body: "x" })).errno).toBeGreaterThan(0);
  expect((await ask({ op: "read", path: "", offset: 0, size: 1 })).errno).toBe(EINVAL);
  expect(await ask({ op: "nonsense", path: "f" } as unknown as VolumeRequest)).toEqual({ errno: EINVAL });
  expect(await ask({ op: "stat" } as unknown as VolumeRequest)).toEqual({ errno: EIO });
});

test("what is asked again after its answer was lost is done once, and answered as it was", async () => {
  expect((await mkdir("d")).attributes).toEqual((await mkdir("d", true)).attributes!);
  expect(await mkdir("d")).toEqual({ errno: EEXIST });
  await create("f");
  const rename: VolumeCall = { op: "rename", path: "f", to: "g", keep: false };
  expect([await ask(rename), await ask(rename, { again: true })]).toEqual([{}, {}]);
  const unlink: VolumeCall = { op: "unlink", path: "g" };
  expect([await ask(unlink), await ask(unlink, { again: true })]).toEqual([{}, {}]);
  expect(await ask(unlink)).toEqual({ errno: ENOENT });
});

test("a disk without room takes nothing more, and gives back", async () => {
  await create("f");
  hasRoom = false;
  expect(await create("g")).toEqual({ errno: ENOSPC });
  expect(await mkdir("d")).toEqual({ errno: ENOSPC });
  expect(await ask({ op: "write", path: "f", offset: 0 }, { body: "x" })).toEqual({ errno: ENOSPC });
  expect(await ask({ op: "change", path: "f", size: 9 })).toEqual({ errno: ENOSPC });
  expect(await ask({ op: "unlink", path: "f" })).toEqual({});
});

test("files that were removed while they were open are nobody's to see, and go with their folder", async () => {
  await mkdir("d");
  writeFileSync(`${dir}/volume/d/.wrenn-removed-1`, "open somewhere");
  linkSync(`${dir}/volume/d/.wrenn-removed-1`, `${dir}/volume/d/.wrenn-removed-2`);
  expect((await ask({ op: "list", path: "d" })).names).toHaveLength(2);
  expect(await ask({ op: "rmdir", path: "d" })).toEqual({});
});
