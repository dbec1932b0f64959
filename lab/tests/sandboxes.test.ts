import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import { openStore } from "../../packages/host/src/store/open.ts";
import { Shelf } from "../../packages/host/src/store/shelf.ts";
import { Vault } from "../../packages/host/src/store/vault.ts";
import { keysFor } from "../../packages/host/test/support/host.ts";
import { copyTemplates } from "../../test/support/data-folder.ts";
import { firecracker, jailer, wrennDir } from "../support/bench.ts";
import { fileIn, fileInExport } from "../support/export.ts";
import { left, leftInTheEnd } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";
import { driversFor } from "../support/recipes.ts";
import { makeWorld, world } from "../support/wan.ts";

/** Firecracker in its jail where it is there; else everything that does not need it, on QEMU with KVM. */
const what = firecracker
  ? jailer
    ? "Firecracker, jailed"
    : "Firecracker"
  : "QEMU with KVM (Firecracker is missing: FIRECRACKER_BIN)";

let host: RealHost;

beforeAll(async () => {
  await makeWorld();
  host = await RealHost.start(() => driversFor("sandboxes", 1));
  const { id } = await host.create(); // freezes the template
  await host.sandboxes.destroy(id);
}, 300_000);

afterAll(async () => {
  await host[Symbol.asyncDispose]();
  expect(await leftInTheEnd()).toEqual({ devices: [], loops: [], networks: [], slots: [], vmms: [], groups: [] });
});

const keep = (id: SandboxId, word: string) =>
  host.sh(id, `echo ${word} >/dev/shm/word; echo ${word} >/root/word; sync`);
const kept = async (id: SandboxId) => (await host.sh(id, "cat /dev/shm/word /root/word")).out;

/** A folder that goes with its test. */
async function folder(name: string): Promise<AsyncDisposable & { readonly dir: string }> {
  const dir = await mkdtemp(`${wrennDir}/${name}-`);
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
}

/**
 * Says that a store has the template of `host`: its image alone would take minutes to be compressed here. Hosts that have
 * it already, as the other one here, fetch nothing of it. With LAB_FULL=1 it is sent and fetched.
 */
async function sendTemplate(store: string): Promise<void> {
  if (process.env.LAB_FULL === "1") return;
  const { frozen, image } = await host.templates.ready("minimal", { vcpus: 1, memoryMib: 256 });
  const note = { vault: keys.common.name, id: "template" };
  const shelf = new Shelf(new Vault(openStore(store, {}).objects, keys.common));
  await shelf.put("templates", note.id, { facts: { image }, files: [] });
  await Bun.write(`${frozen.dir}/stored.json`, JSON.stringify(note));
  await mkdir(`${wrennDir}/templates`, { recursive: true, mode: 0o755 });
  await copyTemplates(host.dir, wrennDir);
}

const keys = keysFor(1);

describe(`sandboxes on ${what}`, () => {
  test("memory and disk survive pause and resume, twice over", async () => {
    const { id } = await host.create();
    await keep(id, "one");
    await host.sandboxes.pause(id);
    expect(left().vmms).toEqual([]);
    await host.sandboxes.resume(id, 2);
    expect(await kept(id)).toBe("one\none\n");
    await keep(id, "two");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 3);
    expect(await kept(id)).toBe("two\ntwo\n");
    await host.sandboxes.destroy(id);
  });

  test("a checkpoint of a running sandbox: it goes on, a fork starts there, and rolling back returns there", async () => {
    const { id } = await host.create();
    await keep(id, "before");
    const { id: snapshot } = await host.sandboxes.checkpoint(id);
    await keep(id, "after");
    const fork = await host.create({ snapshot });
    expect(await kept(fork.id)).toBe("before\nbefore\n");
    expect(await kept(id)).toBe("after\nafter\n");
    await host.sandboxes.rollback(id, 2, snapshot);
    expect(await kept(id)).toBe("before\nbefore\n");
    for (const one of [id, fork.id]) await host.sandboxes.destroy(one);
    await host.sandboxes.deleteSnapshot(snapshot);
  });

  test("each of two sandboxes has an identity of its own", async () => {
    const [a, b] = await Promise.all([host.create(), host.create()]);
    const facts = (id: SandboxId) => host.sh(id, "hostname; cat /etc/machine-id; od -An -N16 -tx1 /dev/urandom");
    expect((await facts(a.id)).out).not.toBe((await facts(b.id)).out);
    for (const { id } of [a, b]) await host.sandboxes.destroy(id);
  });

  test("an agent killed and started again adopts what runs, with its network and disk", async () => {
    const { id } = await host.create();
    await keep(id, "alive");
    const { pid } = host.sandboxes.find(id).machine.vm;
    await host.restart();
    expect(host.sandboxes.find(id).machine.vm.pid).toBe(pid);
    expect(await kept(id)).toBe("alive\nalive\n");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 2);
    expect(await kept(id)).toBe("alive\nalive\n");
    await host.sandboxes.destroy(id);
  });

  test("a pause that keeps the disk alone: the sandbox boots from it, and is paused and resumed with its memory then", async () => {
    const { id } = await host.create();
    await keep(id, "given up");
    await host.sandboxes.pause(id, "", true);
    await host.sandboxes.resume(id, 2);
    expect((await host.sh(id, "cat /dev/shm/word 2>/dev/null; cat /root/word")).out).toBe("given up\n");
    await keep(id, "kept");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 3);
    expect(await kept(id)).toBe("kept\nkept\n");
    await host.sandboxes.destroy(id);
  });

  test("a sandbox moves by the object store: another host runs it on, as it was, and moves it back", async () => {
    await using store = await folder("store");
    await sendTemplate(store.dir);
    await using other = await RealHost.start(async () => driversFor("other"));
    const { id } = await host.create();
    await keep(id, "moved");
    await host.sandboxes.pause(id);
    const sent = await host.moves(store.dir).send(id, keys);
    await host.sandboxes.destroy(id);
    await other.moves(store.dir).bring(id, sent.id, keys);
    await other.sandboxes.resume(id, 2);
    expect((await other.sh(id, "cat /dev/shm/word /root/word; echo here >/dev/shm/word")).out).toBe("moved\nmoved\n");
    await other.sandboxes.pause(id);
    const back = await other.moves(store.dir).send(id, keys);
    await other.sandboxes.destroy(id);
    expect(await other.leftovers()).toEqual({ rows: 0, homes: 0, snapshots: 0, layers: 0 });
    await host.moves(store.dir).bring(id, back.id, keys);
    await host.sandboxes.resume(id, 3);
    expect(await kept(id)).toBe("here\nmoved\n");
    await host.sandboxes.destroy(id);
  });

  test("a volume is mounted in a guest: both sides see each other's files, over a pause and a killed agent", async () => {
    await host.volumes.create("vol_lab");
    const { id } = await host.create({ mounts: [{ volume: "vol_lab", path: "/mnt/lab" }] });
    expect(await host.sh(id, "echo guest >/mnt/lab/a; sync; ls /mnt/lab")).toEqual({ code: 0, out: "a\n" });
    expect(await readFile(`${host.dir}/volumes/vol_lab/a`, "utf8")).toBe("guest\n");
    await host.sandboxes.pause(id);
    await writeFile(`${host.dir}/volumes/vol_lab/b`, "host\n");
    await host.sandboxes.resume(id, 2);
    expect((await host.sh(id, "cat /mnt/lab/a /mnt/lab/b")).out).toBe("guest\nhost\n");
    await host.restart();
    expect((await host.sh(id, "cat /mnt/lab/b; echo more >/mnt/lab/c; cat /mnt/lab/c")).out).toBe("host\nmore\n");
    await host.sandboxes.destroy(id);
    await host.volumes.remove("vol_lab");
  });

  test("a snapshot's disk is taken out whole, as an export does (with LAB_FULL=1 as the archive that others import)", async () => {
    const { id } = await host.create();
    await keep(id, "taken out");
    const { id: snapshot } = await host.sandboxes.checkpoint(id);
    await keep(id, "later");
    const { layer } = host.sandboxes.journal.snapshots.get(snapshot)!;
    await using at = await folder("export");
    await host.drivers.disks.copyOut(host.sandboxes.kitchen.paths.layer(layer), `${at.dir}/disk`);
    await Bun.$`e2fsck -fy ${at.dir}/disk`.nothrow().quiet(); // it was in use: its journal is played back
    expect(await fileIn(`${at.dir}/disk`, "/root/word")).toBe("taken out\n");
    if (process.env.LAB_FULL === "1") expect(await fileInExport(host, snapshot, "/root/word")).toBe("taken out\n");
    await host.sandboxes.destroy(id);
    await host.sandboxes.deleteSnapshot(snapshot);
  });

  test("a VMM killed leaves its sandbox in error, and nothing of it on the host", async () => {
    const { id } = await host.create();
    process.kill(host.sandboxes.find(id).machine.vm.pid, "SIGKILL");
    for (let i = 0; i < 200 && host.sandboxes.find(id).record.state === "running"; i++) await Bun.sleep(50);
    expect(host.sandboxes.find(id).record.state).toBe("error");
    expect(left()).toMatchObject({ vmms: [], groups: [] });
    await host.sandboxes.destroy(id);
  });
});

test("a guest reaches the world outside, and neither the host nor another sandbox", async () => {
  const [a, b] = [await host.create(), await host.create()];
  const other = host.sandboxes.find(b.id).machine.nic.reach(80)!.split(":")[0]!;
  const one = (ip: string) => `(timeout 10 bash -c 'exec 3<>/dev/tcp/${ip}/80' 2>/dev/null && echo ${ip}) &`;
  const { out } = await host.sh(a.id, `${[world.internet, world.host, world.lan, other].map(one).join("\n")}\nwait`);
  expect(out.trim()).toBe(world.internet);
  const { allowed, denied } = await host.sandboxes.flows(a.id);
  expect(allowed).toContainEqual(expect.objectContaining({ ip: world.internet, port: 80, protocol: "tcp" }));
  for (const ip of [world.lan, other])
    expect(denied).toContainEqual(expect.objectContaining({ ip, port: 80, protocol: "tcp" }));
  for (const { id } of [a, b]) await host.sandboxes.destroy(id);
});

/** HTTP in the guest, which has no client of its own but a shell. */
const ask = (ip: string, lines: readonly string[]) =>
  `exec 3<>/dev/tcp/${ip}/80 && printf '${[...lines, "", ""].join("\\r\\n")}' >&3 && timeout 5 cat <&3 | tail -1`;

(firecracker ? test : test.skip)(
  "a guest that asks the metadata address is answered by its VMM, with its own facts and for a token only",
  async () => {
    const { id } = await host.create();
    const server = await host.sh(id, ask(world.metadata, ["GET / HTTP/1.1", "Host: a"]));
    expect(server.out).not.toContain("world"); // what answers there outside
    const token = await host.sh(
      id,
      ask(world.metadata, ["PUT /latest/api/token HTTP/1.1", "X-metadata-token-ttl-seconds: 60"]),
    );
    expect(token.out.length).toBeGreaterThan(20);
    const facts = (accept: string) =>
      host.sh(id, ask(world.metadata, ["GET /sandbox_id HTTP/1.1", `X-metadata-token: ${token.out.trim()}`, accept]));
    expect((await facts("Accept: */*")).out).toContain(id);
    await host.sandboxes.destroy(id);
  },
);
