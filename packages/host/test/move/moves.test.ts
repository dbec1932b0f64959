import { describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { type SandboxId, WrennError } from "@wrenn/contract";
import { Sampler } from "../../src/metrics/sampler.ts";
import { Moves } from "../../src/move/moves.ts";
import { FakeHost, keysFor, nothing, quiet } from "../support/host.ts";
import { Bucket } from "../support/s3.ts";

const keys = keysFor(1);
const failing = (promise: Promise<unknown>): Promise<WrennError> =>
  promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (thrown) => WrennError.from(thrown),
  );

/** Two hosts and one store. */
class Pair implements AsyncDisposable {
  private constructor(
    readonly dir: string,
    readonly one: FakeHost,
    readonly two: FakeHost,
  ) {}

  static async start(): Promise<Pair> {
    return new Pair(await mkdtemp(`${tmpdir()}/wrenn-pair-`), await FakeHost.start(), await FakeHost.start());
  }

  get from(): Moves {
    return this.one.moves(this.dir);
  }

  get to(): Moves {
    return this.two.moves(this.dir);
  }

  /** A sandbox of host one, paused, whose memory holds `text`. */
  async paused(text: string, changes = {}): Promise<SandboxId> {
    const { id } = await this.one.create(changes);
    await this.one.guest(id, "/memory", { method: "PUT", body: text });
    await this.one.sandboxes.pause(id);
    return id;
  }

  /** Removes what host two has fetched of templates. */
  async forgetTemplates(): Promise<void> {
    for (const name of await readdir(`${this.two.dir}/templates`))
      if (name.startsWith("moved-")) await rm(`${this.two.dir}/templates/${name}`, { recursive: true });
  }

  /** Every object below a part of the store. */
  async objects(part: string): Promise<string[]> {
    const all = await readdir(`${this.dir}/${part}`, { recursive: true, withFileTypes: true }).catch(() => []);
    return all.filter((entry) => entry.isFile()).map((entry) => `${entry.parentPath}/${entry.name}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.one[Symbol.asyncDispose]();
    await this.two[Symbol.asyncDispose]();
    await rm(this.dir, { recursive: true, force: true });
  }
}

const memoryOf = async (host: FakeHost, id: SandboxId) => await (await host.guest(id, "/memory")).text();

describe("a sandbox that moves", () => {
  test("is sent, forgotten by its host, brought to another and runs there as it was", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("remember me", { envs: { GREETING: "hello" } });
    const sent = await pair.from.send(id, keys);
    await pair.one.sandboxes.destroy(id);
    expect(await pair.one.leftovers()).toEqual(nothing);
    await pair.to.bring(id, sent.id, keys);
    expect(pair.two.sandboxes.find(id).record).toMatchObject({ state: "paused", snapshot: sent.id, run: 1 });
    expect((await pair.two.sandboxes.resume(id, 2)).state).toBe("running");
    expect(await memoryOf(pair.two, id)).toBe("remember me");
    const [machine] = [...pair.two.world.machines.values()];
    expect(machine!.memory.init!.envVars).toMatchObject({ GREETING: "hello" });
    await pair.two.sandboxes.destroy(id);
    expect(await pair.two.leftovers()).toEqual(nothing);
  });

  test("takes its load along: what it did before is told where it runs now", async () => {
    await using pair = await Pair.start();
    const busy = { cpuMs: 0, memBytes: 4_096 };
    await using here = await Sampler.start(pair.one.sandboxes, quiet, () => ({ ...busy }));
    await using there = await Sampler.start(pair.two.sandboxes, quiet, () => undefined);
    const { id } = await pair.one.create({});
    here.sample();
    const before = await here.points(pair.one.sandboxes.find(id), 0, 1);
    await pair.one.sandboxes.pause(id);
    const points = async (sampler: Sampler, host: FakeHost) =>
      await sampler.points(host.sandboxes.find(id), 0, Date.now());
    const told = await points(here, pair.one);
    expect([before.length, told.length]).toEqual([0, 1]);
    const sent = await new Moves(pair.one.sandboxes, pair.from.store, quiet, here).send(id, keys);
    await pair.one.sandboxes.destroy(id);
    await new Moves(pair.two.sandboxes, pair.to.store, quiet, there).bring(id, sent.id, keys);
    expect(await points(there, pair.two)).toEqual(told);
    await pair.two.sandboxes.destroy(id);
    expect(await pair.two.leftovers()).toEqual(nothing);
  });

  test("goes there and back again, pausing and resuming on the way, and its template is sent once", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("0");
    let sent = await pair.from.send(id, keys);
    for (let run = 2; run < 8; run++) {
      const [from, to] = run % 2 === 0 ? [pair.one, pair.two] : [pair.two, pair.one];
      await from.sandboxes.destroy(id);
      await to.moves(pair.dir).bring(id, sent.id, keys);
      await to.sandboxes.resume(id, run);
      expect(await memoryOf(to, id)).toBe(`${run - 2}`);
      await to.guest(id, "/memory", { method: "PUT", body: `${run - 1}` });
      await to.sandboxes.pause(id);
      sent = await to.moves(pair.dir).send(id, keys);
    }
    expect((await pair.objects("common/templates")).length).toBe(1);
    // Host one froze the template itself and has not fetched its own back.
    expect((await readdir(`${pair.one.dir}/templates`)).filter((name) => name.startsWith("moved-"))).toEqual([]);
  });

  test("a host without the image gets it too; one that has it does not fetch it", async () => {
    await using pair = await Pair.start();
    await writeFile(`${pair.one.dir}/images/minimal/rootfs.ext4`, crypto.getRandomValues(new Uint8Array(65_536)));
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    await rm(`${pair.two.dir}/images/minimal`, { recursive: true });
    await pair.to.bring(id, sent.id, keys);
    const [template] = (await readdir(`${pair.two.dir}/templates`)).filter((name) => name.startsWith("moved-"));
    const [here, there] = await Promise.all([
      readFile(`${pair.two.dir}/templates/${template}/rootfs.ext4`),
      readFile(`${pair.one.dir}/images/minimal/rootfs.ext4`),
    ]);
    expect(Buffer.compare(here, there)).toBe(0);
    await pair.two.sandboxes.resume(id, 2);
    expect(await memoryOf(pair.two, id)).toBe("kept");
  });

  test("sent twice, what is there is not sent again", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    expect((await pair.from.send(id, keys)).sentBytes).toBeGreaterThan(0);
    expect((await pair.from.send(id, keys)).sentBytes).toBe(0);
  });

  test("two that share disk layers are both whole at the other end, and the layers are there once", async () => {
    await using pair = await Pair.start();
    const source = await pair.one.create();
    await pair.one.guest(source.id, "/memory", { method: "PUT", body: "shared" });
    const { id: snapshot } = await pair.one.sandboxes.checkpoint(source.id);
    const child = await pair.one.create({ snapshot });
    const ids = [source.id, child.id];
    const parcels: string[] = [];
    for (const id of ids) {
      await pair.one.sandboxes.pause(id);
      parcels.push((await pair.from.send(id, keys)).id);
    }
    const to = pair.to;
    await Promise.all(ids.map((id, at) => to.bring(id, parcels[at]!, keys)));
    for (const id of ids) {
      await pair.two.sandboxes.resume(id, 2);
      expect(await memoryOf(pair.two, id)).toBe("shared");
    }
    for (const id of ids) await pair.two.sandboxes.destroy(id);
    expect(await pair.two.leftovers()).toEqual(nothing);
  });

  test("one that was resumed while it was sent stays where it is", async () => {
    await using pair = await Pair.start();
    await using bucket = await Bucket.start();
    const id = await pair.paused("kept");
    bucket.fault = (request) =>
      request.method === "PUT" && request.url.includes("/chunks/") ? new Promise<Response>(() => {}) : undefined;
    const sending = failing(pair.one.moves("s3://wrenn", bucket.env).send(id, keys));
    while (!bucket.seen.some((line) => line.startsWith("PUT") && line.includes("/chunks/"))) await Bun.sleep(1);
    expect((await pair.one.sandboxes.resume(id, 2)).state).toBe("running");
    expect((await sending).code).toBe("conflict");
    expect(await memoryOf(pair.one, id)).toBe("kept");
  });

  test("a running one, and one that is not there, are refused", async () => {
    await using pair = await Pair.start();
    const { id } = await pair.one.create();
    const from = pair.from;
    expect((await failing(Promise.resolve().then(() => from.send(id, keys)))).code).toBe("invalid_state");
    expect((await failing(pair.to.bring(id, "none", keys))).code).toBe("not_found");
    expect(await pair.two.leftovers()).toEqual(nothing);
  });

  test("a host of another class refuses it before anything is fetched, and names both", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    Object.assign(pair.two.world.vmm, { fingerprint: "another" });
    const error = await failing(pair.to.bring(id, sent.id, keys));
    expect(error).toMatchObject({ code: "conflict", details: { saved: sent.moveClass } });
    expect(await pair.two.leftovers()).toEqual(nothing);
  });

  test("brought where it still is, it is taken as it is", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    await rm(pair.dir, { recursive: true }); // nothing of the store is needed
    await pair.from.bring(id, sent.id, keys);
    await pair.one.sandboxes.resume(id, 2);
    expect(await memoryOf(pair.one, id)).toBe("kept");
  });

  test("what a host has of it from before it was sent away is replaced", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("old");
    const first = await pair.from.send(id, keys);
    await pair.to.bring(id, first.id, keys); // host one was not told to forget it
    await pair.two.sandboxes.resume(id, 2);
    await pair.two.guest(id, "/memory", { method: "PUT", body: "new" });
    await pair.two.sandboxes.pause(id);
    const second = await pair.to.send(id, keys);
    await pair.from.bring(id, second.id, keys);
    await pair.one.sandboxes.resume(id, 3);
    expect(await memoryOf(pair.one, id)).toBe("new");
  });

  test("a removal that is meant for an earlier incarnation leaves it", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    await pair.one.sandboxes.destroyPaused(id, 7);
    await pair.one.sandboxes.resume(id, 2);
    await pair.one.sandboxes.destroyPaused(id, 2);
    expect(await memoryOf(pair.one, id)).toBe("kept");
    await pair.one.sandboxes.pause(id);
    await pair.one.sandboxes.destroyPaused(id, 2);
    expect(await pair.one.leftovers()).toEqual(nothing);
  });
});

describe("faults of the way", () => {
  test("any object of it that is damaged or missing is named, leaves nothing, and it comes when it is whole again", async () => {
    await using pair = await Pair.start();
    await rm(`${pair.two.dir}/images/minimal`, { recursive: true });
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    const objects = [...(await pair.objects("team1")), ...(await pair.objects("common"))].filter(
      (path) => !path.includes("/references/"),
    );
    expect(objects.length).toBeGreaterThan(4);
    for (const path of objects) {
      const whole = await readFile(path);
      for (const harm of [() => truncate(path, Math.floor(whole.length / 2)), () => rm(path)]) {
        await pair.forgetTemplates();
        await harm();
        const error = await failing(pair.to.bring(id, sent.id, keys));
        expect(["internal_error", "not_found"]).toContain(error.code);
        expect(error.message).toContain(path.slice(pair.dir.length + 1));
        expect(await pair.two.leftovers()).toEqual(nothing);
        await writeFile(path, whole);
      }
    }
    await pair.to.bring(id, sent.id, keys);
    await pair.two.sandboxes.resume(id, 2);
    expect(await memoryOf(pair.two, id)).toBe("kept");
  });

  test("a store that fails at any request of a transfer leaves the sandbox paused; the next try goes on", async () => {
    await using pair = await Pair.start();
    await using bucket = await Bucket.start();
    const id = await pair.paused("kept");
    let at = 0;
    let broken = 0;
    bucket.fault = () =>
      at++ === broken ? new Response("<Error><Code>AccessDenied</Code></Error>", { status: 403 }) : undefined;
    for (; ; broken++) {
      at = 0;
      const result = await pair.one.moves("s3://wrenn/fleet", bucket.env).send(id, keys).catch(WrennError.from);
      expect(pair.one.sandboxes.find(id).record.state).toBe("paused");
      if (at <= broken) break; // it needed no more requests than were let pass
      if (result instanceof WrennError) expect(result.code).toBe("unavailable");
    }
    expect(broken).toBeGreaterThan(5); // each try needs fewer requests, since it sends less
    bucket.fault = () => undefined;
    const sent = await pair.one.moves("s3://wrenn/fleet", bucket.env).send(id, keys);
    expect(sent.sentBytes).toBe(0);
    await pair.two.moves("s3://wrenn/fleet", bucket.env).bring(id, sent.id, keys);
    await pair.two.sandboxes.resume(id, 2);
    expect(await memoryOf(pair.two, id)).toBe("kept");
  });

  test("an agent killed while it brings a sandbox leaves nothing of it behind", async () => {
    await using pair = await Pair.start();
    await using bucket = await Bucket.start();
    const id = await pair.paused("kept");
    const sent = await pair.one.moves("s3://wrenn", bucket.env).send(id, keys);
    for (const part of ["/common/chunks/", "/team1/chunks/"]) {
      await pair.forgetTemplates();
      let seen = false;
      bucket.fault = (request) => {
        if (request.method !== "GET" || !request.url.includes(part)) return undefined;
        seen = true;
        return new Promise<Response>(() => {});
      };
      void pair.two
        .moves("s3://wrenn", bucket.env)
        .bring(id, sent.id, keys)
        .catch(() => {});
      while (!seen) await Bun.sleep(1);
      await pair.two.restart();
      expect(await pair.two.leftovers()).toEqual(nothing);
    }
    bucket.fault = () => undefined;
    await pair.two.moves("s3://wrenn", bucket.env).bring(id, sent.id, keys);
    await pair.two.sandboxes.resume(id, 2);
    expect(await memoryOf(pair.two, id)).toBe("kept");
  });

  test("another team's key opens nothing of it", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    const stolen = { ...keys, team: { ...keys.team, key: new Uint8Array(32).fill(3) } };
    expect((await failing(pair.to.bring(id, sent.id, stolen))).code).toBe("internal_error");
    expect((await failing(pair.to.bring(id, sent.id, keysFor(2)))).code).toBe("not_found");
    expect(await pair.two.leftovers()).toEqual(nothing);
  });
});

describe("what is in the store", () => {
  test("goes with its parcel, but for the template, which others may want", async () => {
    await using pair = await Pair.start();
    const id = await pair.paused("kept");
    const sent = await pair.from.send(id, keys);
    expect((await pair.objects("common/references")).length).toBe(1);
    await using from = pair.from;
    await from.discard([sent.id, "never-sent"], keys);
    expect(await pair.objects("team1/sandboxes")).toEqual([]);
    expect(await pair.objects("common/references")).toEqual([]);
    expect((await pair.objects("common/templates")).length).toBe(1);
  });
});
