import { describe, expect, test } from "bun:test";
import { mkdtemp, open, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { WrennError } from "@wrenn/contract";
import { chunkBytes, fetchFile, storeFile } from "../../src/store/files.ts";
import { FolderStore } from "../../src/store/folder.ts";
import { Shelf } from "../../src/store/shelf.ts";
import { Vault } from "../../src/store/vault.ts";

const key = (fill: number) => ({ name: `part${fill}`, key: new Uint8Array(32).fill(fill) });
const course = () => ({ signal: new AbortController().signal, tally: { bytes: 0, sent: 0 } });
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (thrown) => WrennError.from(thrown).code,
  );

class Place implements AsyncDisposable {
  private constructor(readonly dir: string) {}

  static async make(): Promise<Place> {
    return new Place(await mkdtemp(`${tmpdir()}/wrenn-shelf-`));
  }

  get store() {
    return new FolderStore(`${this.dir}/store`);
  }

  vault(fill = 1) {
    return new Vault(this.store, key(fill));
  }

  async chunks(fill = 1): Promise<string[]> {
    const all = await readdir(`${this.dir}/store/part${fill}/chunks`, { recursive: true, withFileTypes: true });
    return all.filter((entry) => entry.isFile()).map((entry) => `${entry.parentPath}/${entry.name}`);
  }

  /** A sparse file: data at 0, a hole, data at 9 MiB, and an odd end. */
  async sparse(name = "file", seed = 7): Promise<string> {
    const path = `${this.dir}/${name}`;
    await using file = await open(path, "w");
    await file.write(new Uint8Array(100_000).fill(seed), 0, 100_000, 0);
    await file.write(crypto.getRandomValues(new Uint8Array(60_000)), 0, 60_000, 9 << 20);
    await file.truncate((13 << 20) + 17);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }
}

describe("files in the store", () => {
  test("a sparse file comes back byte for byte, with its mode and its holes", async () => {
    await using place = await Place.make();
    const path = await place.sparse();
    const stored = await storeFile(place.vault(), path, course());
    expect(stored.chunks.map(([index]) => index)).toEqual([0, Math.floor((9 << 20) / chunkBytes)]);
    await fetchFile(place.vault(), stored, `${place.dir}/back`, course());
    expect(Buffer.compare(await readFile(path), await readFile(`${place.dir}/back`))).toBe(0);
    const [before, after] = [await stat(path), await stat(`${place.dir}/back`)];
    expect(after.mode).toBe(before.mode);
    expect(after.blocks * 512).toBeLessThan(2 << 20);
  });

  test("the same content is sent once; a cut transfer goes on where it was", async () => {
    await using place = await Place.make();
    const path = await place.sparse();
    const [first, second] = [course(), course()];
    await storeFile(place.vault(), path, first);
    await storeFile(place.vault(), path, second);
    expect(first.tally.sent).toBeGreaterThan(0);
    expect(second.tally).toEqual({ bytes: first.tally.bytes, sent: 0 });
    await rm((await place.chunks())[0]!);
    const third = course();
    await storeFile(place.vault(), path, third);
    expect(third.tally.sent).toBeGreaterThan(0);
    expect(third.tally.sent).toBeLessThan(first.tally.sent);
  });

  test("nothing of the content, nor that two teams have the same, can be seen in the store", async () => {
    await using place = await Place.make();
    const path = `${place.dir}/secret`;
    await writeFile(path, "a secret that everybody would know. ".repeat(2_000));
    await storeFile(place.vault(1), path, course());
    await storeFile(place.vault(2), path, course());
    const [one] = await place.chunks(1);
    const [two] = await place.chunks(2);
    expect((await readFile(one!)).includes("secret")).toBe(false);
    expect(one!.split("/").at(-1)).not.toBe(two!.split("/").at(-1));
  });

  test("a chunk that is damaged, cut, empty, another's or missing is named", async () => {
    await using place = await Place.make();
    const stored = await storeFile(place.vault(), await place.sparse(), course());
    const [one, two] = (await place.chunks()) as [string, string];
    const whole = await readFile(one);
    const harm: [string, () => Promise<void>][] = [
      ["flipped", () => writeFile(one, Buffer.from(whole).fill(whole[40]! ^ 1, 40, 41))],
      ["cut", () => writeFile(one, whole.subarray(0, whole.length - 5))],
      ["empty", () => writeFile(one, "")],
      ["another's", async () => writeFile(one, await readFile(two))],
      ["missing", () => rm(one)],
    ];
    for (const [what, act] of harm) {
      await act();
      const fetched = fetchFile(place.vault(), stored, `${place.dir}/${what}`, course());
      const error = await fetched.then(() => undefined, WrennError.from);
      expect(error, what).toMatchObject({
        code: "internal_error",
        details: { object: one.slice(`${place.dir}/store/`.length) },
      });
      await writeFile(one, whole);
    }
    await fetchFile(place.vault(), stored, `${place.dir}/well`, course());
  });

  test("another key opens nothing", async () => {
    await using place = await Place.make();
    const stored = await storeFile(place.vault(), await place.sparse(), course());
    const wrong = new Vault(place.store, { name: "part1", key: new Uint8Array(32).fill(9) });
    expect(await code(fetchFile(wrong, stored, `${place.dir}/back`, course()))).toBe("internal_error");
  });

  test("an aborted transfer stops", async () => {
    await using place = await Place.make();
    const stop = new AbortController();
    stop.abort(new WrennError("conflict", "enough"));
    const path = await place.sparse();
    expect(await code(storeFile(place.vault(), path, { ...course(), signal: stop.signal }))).toBe("conflict");
    expect(await place.chunks().catch(() => [])).toEqual([]);
  });
});

describe("parcels", () => {
  test("a sweep removes the chunks that no parcel names, and those only", async () => {
    await using place = await Place.make();
    const shelf = new Shelf(place.vault());
    const kept = await storeFile(shelf.vault, await place.sparse("kept"), course());
    await shelf.put("sandboxes", "kept", { facts: {}, files: [kept] });
    const going = await storeFile(shelf.vault, await place.sparse("going", 9), course());
    await shelf.put("sandboxes", "going", { facts: {}, files: [going] });
    expect(await shelf.sweep()).toBe(true);
    await fetchFile(shelf.vault, going, `${place.dir}/still`, course());
    await shelf.remove("sandboxes", "going");
    expect(await shelf.sweep()).toBe(true);
    await fetchFile(shelf.vault, kept, `${place.dir}/back`, course());
    expect((await place.chunks()).length).toBe(kept.chunks.length);
  });

  test("nobody sweeps while somebody sends, and who sends waits for a sweep", async () => {
    await using place = await Place.make();
    const shelf = new Shelf(place.vault());
    const signal = new AbortController().signal;
    const order: string[] = [];
    const sent = Promise.withResolvers<void>();
    const sending = shelf.leases.sending(signal, () => sent.promise);
    await Bun.sleep(20);
    expect(await shelf.sweep()).toBe(false);
    sent.resolve();
    await sending;
    const swept = Promise.withResolvers<void>();
    const sweeping = shelf.leases.sweeping(() => swept.promise.then(() => void order.push("swept")));
    await Bun.sleep(20);
    const next = shelf.leases.sending(signal, async () => void order.push("sent"));
    await Bun.sleep(50);
    swept.resolve();
    await Promise.all([sweeping, next]);
    expect(order).toEqual(["swept", "sent"]);
  });

  test("a template stays while somebody refers to it, and for a while after", async () => {
    await using place = await Place.make();
    const shelf = new Shelf(place.vault());
    await shelf.put("templates", "t", { facts: {}, files: [] });
    await shelf.refer("t", "sandbox");
    await shelf.sweep();
    expect(await shelf.has("templates", "t")).toBe(true);
    await shelf.unrefer("t", "sandbox");
    await shelf.sweep();
    expect(await shelf.has("templates", "t")).toBe(true); // somebody may want it again today
    const old = new Date(Date.now() - 30 * 86_400_000);
    await utimes(`${place.dir}/store/part1/templates/t`, old, old);
    await shelf.refer("t", "sandbox");
    await shelf.sweep();
    expect(await shelf.has("templates", "t")).toBe(true);
    await shelf.unrefer("t", "sandbox");
    await shelf.sweep();
    expect(await shelf.has("templates", "t")).toBe(false);
  });

  test("a parcel that is not there, is damaged, or is of a newer layout is refused each by its code", async () => {
    await using place = await Place.make();
    const shelf = new Shelf(place.vault());
    expect(await code(shelf.get("sandboxes", "none"))).toBe("not_found");
    await shelf.put("sandboxes", "one", { facts: {}, files: [] });
    await writeFile(`${place.dir}/store/part1/sandboxes/one`, "rubbish");
    expect(await code(shelf.get("sandboxes", "one"))).toBe("internal_error");
    await shelf.vault.write("part1/sandboxes/new", new TextEncoder().encode(JSON.stringify({ layout: 99 })));
    expect(await code(shelf.get("sandboxes", "new"))).toBe("conflict");
  });
});
