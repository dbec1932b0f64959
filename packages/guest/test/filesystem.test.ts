import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { filesystem as wire } from "@wrenn/contract";
import { until, useAgent } from "./support/agent.ts";

const agent = useAgent();
const at = (...names: string[]) => join(agent.folder, ...names);

const codeOf = (work: Promise<unknown>): Promise<Code | undefined> =>
  work.then(
    () => undefined,
    (thrown) => ConnectError.from(thrown).code,
  );

describe.each([true, false])("filesystem.Filesystem, JSON: %p", (json) => {
  const files = () => agent.files(json);

  test("stat tells what ls tells", async () => {
    const path = at(`stat-${json}`);
    writeFileSync(path, "12345");
    chmodSync(path, 0o640);
    utimesSync(path, 1_700_000_000, 1_700_000_000.5);
    const { entry } = await files().stat({ path });
    expect(entry).toMatchObject({
      path,
      name: `stat-${json}`,
      type: wire.FileType.FILE,
      size: 5n,
      mode: 0o640,
      permissions: "-rw-r-----",
      isSymlink: false,
      modifiedTime: { seconds: 1_700_000_000n, nanos: 500_000_000 },
    });
    expect(entry?.symlinkTarget).toBeUndefined();
  });

  test("a link shows its target's type and mode, and its own permissions; a broken one has no type", async () => {
    const [target, link, broken] = [at(`target-${json}`), at(`link-${json}`), at(`broken-${json}`)];
    mkdirSync(target);
    chmodSync(target, 0o700);
    symlinkSync(`target-${json}`, link);
    symlinkSync("nowhere", broken);
    expect((await files().stat({ path: link })).entry).toMatchObject({
      type: wire.FileType.DIRECTORY,
      mode: 0o700,
      permissions: "Lrwxrwxrwx",
      symlinkTarget: target,
      isSymlink: true,
    });
    expect((await files().stat({ path: broken })).entry).toMatchObject({
      type: wire.FileType.UNSPECIFIED,
      symlinkTarget: at("nowhere"),
    });
  });

  test("a listing is lexical, parents first, as deep as asked, and follows no link", async () => {
    const root = at(`list-${json}`);
    mkdirSync(join(root, "b/deep"), { recursive: true });
    for (const name of ["c", "a", "b/2", "b/1", "b/deep/x"]) writeFileSync(join(root, name), "");
    symlinkSync("b", join(root, "d"));
    const names = async (depth: number) =>
      (await files().listDir({ path: root, depth })).entries.map(({ path }) => path.slice(root.length + 1));
    expect(await names(0)).toEqual(["a", "b", "c", "d"]);
    expect(await names(2)).toEqual(["a", "b", "b/1", "b/2", "b/deep", "c", "d"]);
    expect(await names(9)).toEqual(["a", "b", "b/1", "b/2", "b/deep", "b/deep/x", "c", "d"]);
  });

  test("mistakes have codes of their own", async () => {
    const [dir, file] = [at(`dir-${json}`), at(`file-${json}`)];
    mkdirSync(dir);
    writeFileSync(file, "");
    const missing = at("missing");
    expect(await codeOf(files().stat({ path: missing }))).toBe(Code.NotFound);
    expect(await codeOf(files().listDir({ path: missing }))).toBe(Code.NotFound);
    expect(await codeOf(files().listDir({ path: file }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().makeDir({ path: dir }))).toBe(Code.AlreadyExists);
    expect(await codeOf(files().makeDir({ path: file }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().makeDir({ path: join(file, "x") }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().move({ source: missing, destination: file }))).toBe(Code.NotFound);
    expect(await codeOf(files().move({ source: dir, destination: join(dir, "in") }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().remove({ path: "/" }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().createWatcher({ path: file }))).toBe(Code.InvalidArgument);
    expect(await codeOf(files().getWatcherEvents({ watcherId: "none" }))).toBe(Code.NotFound);
  });

  test("make, move and remove", async () => {
    const made = await files().makeDir({ path: at(`made-${json}/a/b`) });
    expect(made.entry).toMatchObject({ type: wire.FileType.DIRECTORY, permissions: "drwxr-xr-x" });
    const moved = await files().move({ source: at(`made-${json}`), destination: at(`moved-${json}/into`) });
    expect(moved.entry?.path).toBe(at(`moved-${json}/into`));
    await files().remove({ path: at(`moved-${json}`) });
    expect(await codeOf(files().stat({ path: at(`moved-${json}`) }))).toBe(Code.NotFound);
    await files().remove({ path: at(`moved-${json}`) }); // nothing there is no error
  });

  test("a watch tells every kind of change, also in folders made later", async () => {
    const root = at(`watch-${json}`);
    mkdirSync(root);
    const seen: string[] = [];
    const stop = new AbortController();
    let started = false;
    const watching = (async () => {
      const request = { path: root, recursive: true, includeEntry: true };
      for await (const { event } of files().watchDir(request, { signal: stop.signal }))
        if (event.case === "start") started = true;
        else if (event.case === "filesystem")
          seen.push(`${wire.EventType[event.value.type]} ${event.value.name}${event.value.entry ? " +" : ""}`);
    })().catch(() => {});
    await until(() => started);
    const steps: [() => void, string][] = [
      [() => writeFileSync(join(root, "f"), "x"), "WRITE f +"],
      [() => chmodSync(join(root, "f"), 0o600), "CHMOD f +"],
      [() => renameSync(join(root, "f"), join(root, "g")), "CREATE g +"],
      [() => rmSync(join(root, "g")), "REMOVE g"],
      [() => mkdirSync(join(root, "d/e"), { recursive: true }), "CREATE d/e +"],
      [() => writeFileSync(join(root, "d/e/h"), "x"), "CREATE d/e/h +"],
      [() => renameSync(join(root, "d"), join(root, "k")), "CREATE k +"],
      [() => writeFileSync(join(root, "k/e/i"), "x"), "CREATE k/e/i +"],
    ];
    for (const [change, wanted] of steps) {
      change();
      await until(() => seen.includes(wanted));
    }
    expect(seen).toContain("CREATE f +");
    expect(seen).toContain("RENAME f");
    expect(seen.filter((text) => text.startsWith("CREATE d/e "))).toHaveLength(1);
    stop.abort();
    await watching;
  });
});

test("10,000 files in one folder are listed", async () => {
  // in memory where that is possible: a busy disk needs seconds for so many files
  const root = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : agent.folder, "many-"));
  for (let i = 0; i < 10_000; i++) writeFileSync(join(root, `file-${i}`), "");
  const { entries } = await agent.files(false).listDir({ path: root });
  expect(entries).toHaveLength(10_000);
  expect(new Set(entries.map(({ name }) => name)).size).toBe(10_000);
  rmSync(root, { recursive: true });
});

test("a tree that appears at once is told completely, and each entry once", async () => {
  const root = at("burst");
  mkdirSync(root);
  const { watcherId } = await agent.files().createWatcher({ path: root, recursive: true });
  const wanted: string[] = [];
  for (let i = 0; i < 30; i++) {
    mkdirSync(join(root, `d${i}/x/y`), { recursive: true });
    writeFileSync(join(root, `d${i}/x/y/f`), "1");
    wanted.push(`d${i}`, `d${i}/x`, `d${i}/x/y`, `d${i}/x/y/f`);
  }
  const created: string[] = [];
  await until(async () => {
    for (const { name, type } of (await agent.files().getWatcherEvents({ watcherId })).events)
      if (type === wire.EventType.CREATE) created.push(name);
    return created.length >= wanted.length;
  });
  expect(created.toSorted()).toEqual(wanted.toSorted());
  await agent.files().removeWatcher({ watcherId });
  expect(await codeOf(agent.files().removeWatcher({ watcherId }))).toBe(Code.NotFound);
});

test("without recursive, what happens in folders below stays untold", async () => {
  const root = at("flat");
  mkdirSync(join(root, "below"), { recursive: true });
  const { watcherId } = await agent.files().createWatcher({ path: root });
  writeFileSync(join(root, "below/f"), "");
  writeFileSync(join(root, "top"), "");
  const names: string[] = [];
  await until(async () => {
    names.push(...(await agent.files().getWatcherEvents({ watcherId })).events.map(({ name }) => name));
    return names.includes("top");
  });
  expect(names.filter((name) => name.startsWith("below/"))).toEqual([]);
});

test("an upload is told as what it does: a file made and written, or written to; never under a temporary name", async () => {
  const root = at("uploads");
  mkdirSync(root);
  const { watcherId } = await agent.files().createWatcher({ path: root, includeEntry: true });
  const upload = (name: string, body: string) =>
    fetch(`${agent.url}/files?${new URLSearchParams({ path: join(root, name) })}`, {
      ...{ method: "POST", body, headers: { "Content-Type": "application/octet-stream" } },
    });
  for (const body of ["first", "second"]) expect((await upload("file", body)).status).toBe(200);
  const { events } = await agent.files().getWatcherEvents({ watcherId }); // at once: nothing is still on its way
  const seen = events.map(({ name, type, entry }) => `${wire.EventType[type]} ${name} ${entry?.path}`);
  const file = `file ${join(root, "file")}`;
  expect(seen).toEqual([`CREATE ${file}`, `CHMOD ${file}`, `WRITE ${file}`, `WRITE ${file}`]);
});
