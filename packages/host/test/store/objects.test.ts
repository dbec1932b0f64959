import { describe, expect, test } from "bun:test";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { WrennError } from "@wrenn/contract";
import { FolderStore } from "../../src/store/folder.ts";
import type { ObjectStore } from "../../src/store/objects.ts";
import { openStore } from "../../src/store/open.ts";
import { S3Store } from "../../src/store/s3.ts";
import { Bucket } from "../support/s3.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const keysOf = async (store: ObjectStore, prefix: string) =>
  (await Array.fromAsync(store.list(prefix))).map(({ key }) => key).sort();
const failing = (promise: Promise<unknown>): Promise<WrennError> =>
  promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (thrown) => WrennError.from(thrown),
  );

/** The promises of `ObjectStore`, for each. */
function suite(name: string, run: (work: (store: ObjectStore) => Promise<void>) => Promise<void>): void {
  describe(`ObjectStore ${name}`, () => {
    test("what is put is there, is replaced whole, and is gone when it is removed, twice too", () =>
      run(async (store) => {
        expect(await store.get("a/b")).toBeUndefined();
        expect(await store.has("a/b")).toBe(false);
        await store.put("a/b", bytes("one, which is longer"));
        await store.put("a/b", bytes("two"));
        expect(new TextDecoder().decode(await store.get("a/b"))).toBe("two");
        expect(await store.has("a/b")).toBe(true);
        await store.remove("a/b");
        await store.remove("a/b");
        expect(await store.get("a/b")).toBeUndefined();
      }));

    test("a list has what begins with the prefix, with the time of its writing, and nothing for an empty place", () =>
      run(async (store) => {
        for (const key of ["x/1", "x/2", "x/y/3", "z/4"]) await store.put(key, bytes(key));
        expect(await keysOf(store, "x/")).toEqual(["x/1", "x/2", "x/y/3"]);
        expect(await keysOf(store, "nothing/")).toEqual([]);
        const [one] = await Array.fromAsync(store.list("z/"));
        expect(Math.abs(Date.now() - one!.modifiedAtMs)).toBeLessThan(600_000);
      }));

    test("a value of several MiB comes back byte for byte", () =>
      run(async (store) => {
        const value = crypto.getRandomValues(new Uint8Array(65_536));
        const large = Buffer.concat(Array.from({ length: 48 }, () => value));
        await store.put("large", large);
        expect(Buffer.compare((await store.get("large"))!, large)).toBe(0);
      }));
  });
}

suite("folder", async (work) => {
  const dir = await mkdtemp(`${tmpdir()}/wrenn-store-`);
  await work(new FolderStore(dir)).finally(() => rm(dir, { recursive: true }));
});

suite("S3", async (work) => {
  await using bucket = await Bucket.start();
  await work(bucket.store());
});

describe("an S3 service that fails", () => {
  test("answers 500, 503 and 429 first: the request is sent again and succeeds", async () => {
    await using bucket = await Bucket.start();
    const answers = [500, 503, 429];
    bucket.fault = () => {
      const status = answers.shift();
      return status ? new Response("<Error><Code>SlowDown</Code></Error>", { status }) : undefined;
    };
    const store = bucket.store();
    await store.put("a", bytes("kept"));
    expect(new TextDecoder().decode(await store.get("a"))).toBe("kept");
    expect(answers).toEqual([]);
  });

  test("never answers well: the error names the store and says what to do", async () => {
    await using bucket = await Bucket.start();
    bucket.fault = () => new Response("no", { status: 500 });
    const error = await failing(bucket.store().put("a", bytes("x")));
    expect(error).toMatchObject({ code: "unavailable", details: { store: "s3://wrenn/some/where" } });
    expect(error.remedy).toContain("WRENN_STORE");
    expect(bucket.seen.length).toBe(4);
  });

  test("does not answer at all: each try has an end, and the next one is made", async () => {
    await using bucket = await Bucket.start();
    let left = 1;
    bucket.fault = () => (left-- > 0 ? new Promise<Response>(() => {}) : undefined);
    await bucket.store({ timeoutMs: 1_000 }).put("a", bytes("kept"));
    expect(await bucket.store().has("a")).toBe(true);
  });

  test("breaks the line in the middle of an answer: it is asked again", async () => {
    const answers = ["kept", "kept and whole"];
    using line = Bun.listen({
      ...{ hostname: "127.0.0.1", port: 0 },
      socket: {
        data(socket) {
          socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n${answers.shift()}`);
          socket.end();
        },
      },
    });
    const access = { accessKeyId: "a", secretAccessKey: "b", endpoint: `http://127.0.0.1:${line.port}` };
    const timings = { tries: 3, firstWaitMs: 1 };
    const store = new S3Store({ bucket: "wrenn", prefix: "", region: "us-east-1", ...access, timings });
    expect(new TextDecoder().decode(await store.get("a"))).toBe("kept and whole");
  });

  test("refuses the credentials: it is asked once, and the error says so", async () => {
    await using bucket = await Bucket.start();
    bucket.fault = () => new Response("<Error><Code>AccessDenied</Code></Error>", { status: 403 });
    const error = await failing(bucket.store().get("a"));
    expect(error.message).toContain("AccessDenied");
    expect(bucket.seen.length).toBe(1);
  });

  test("has no room left: insufficient_storage", async () => {
    await using bucket = await Bucket.start();
    bucket.fault = () => new Response("<Error><Code>QuotaExceeded</Code></Error>", { status: 507 });
    expect((await failing(bucket.store().put("a", bytes("x")))).code).toBe("insufficient_storage");
  });

  test("a caller that gives up ends the request under way", async () => {
    await using bucket = await Bucket.start();
    bucket.fault = () => new Promise<Response>(() => {});
    const stop = new AbortController();
    const put = bucket.store().put("a", bytes("x"), stop.signal);
    while (bucket.seen.length === 0) await Bun.sleep(1);
    stop.abort(new WrennError("conflict", "given up"));
    expect((await failing(put)).code).toBe("conflict");
  });
});

describe("a folder that fails", () => {
  test("what a killed agent wrote half is no object", async () => {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-store-`);
    const store = new FolderStore(dir);
    await store.put("x/whole", bytes("1"));
    await writeFile(`${dir}/x/.part-0123`, "ha");
    expect(await keysOf(store, "x/")).toEqual(["x/whole"]);
    await rm(dir, { recursive: true });
  });

  test("cannot be written to: the error names it, and no half file stays", async () => {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-store-`);
    await writeFile(`${dir}/x`, "a file where the folder should be");
    const error = await failing(new FolderStore(dir).put("x/1", bytes("1")));
    expect(error).toMatchObject({ code: "unavailable", details: { store: `file://${dir}` } });
    await chmod(dir, 0o700);
    expect(await readdir(dir)).toEqual(["x"]);
    await rm(dir, { recursive: true });
  });
});

describe("WRENN_STORE", () => {
  test("names a folder or a bucket; anything else is refused with what to write", () => {
    expect(openStore("/srv/store/", {}).objects.name).toBe("file:///srv/store");
    expect(openStore("file:///srv/store", {}).objects.name).toBe("file:///srv/store");
    expect(openStore("s3://bucket/some/where/", {}).objects.name).toBe("s3://bucket/some/where");
    expect(openStore("s3://bucket", {}).objects.name).toBe("s3://bucket");
    for (const bad of ["", "store", "http://bucket", "s3://B", "s3://"])
      expect(() => openStore(bad, {})).toThrow("WRENN_STORE");
  });

  test("two hosts that open one store at once agree on its name; another store has another", async () => {
    const dirs = await Promise.all([mkdtemp(`${tmpdir()}/wrenn-store-`), mkdtemp(`${tmpdir()}/wrenn-store-`)]);
    const [one, same] = await Promise.all([openStore(dirs[0], {}).id(), openStore(dirs[0], {}).id()]);
    expect(same).toBe(one);
    expect(await openStore(dirs[1], {}).id()).not.toBe(one);
    for (const dir of dirs) await rm(dir, { recursive: true });
  });
});
