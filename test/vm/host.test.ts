import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { open, rm } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { agentPort, fromConnectError, headers, hostagent, newSandboxId, processes, proxyPath } from "@wrenn/contract";
import { type HostAgent, start } from "../../packages/host/src/index.ts";
import { Journal } from "../../packages/host/src/journal.ts";
import { quiet } from "../../packages/host/test/support/host.ts";
import { dataFolder, keepTemplates } from "../support/data-folder.ts";
import { isAlive, processesOf, statusOf, vmsOf } from "../support/processes.ts";

/** A host agent with real VMs, driven over its own wire. */
const { SandboxState } = hostagent;
const token = "a token of the test";
let dir: string;
let agent: HostAgent;

const withToken = ((input: RequestInfo | URL, init?: RequestInit) => {
  const all = new Headers(init?.headers);
  all.set(headers.hostToken, token);
  return fetch(input, { ...init, headers: all });
}) as typeof fetch;
const transport = (baseUrl: string) => createConnectTransport({ baseUrl, fetch: withToken, useBinaryFormat: true });
const rpc = () => createClient(hostagent.HostAgentService, transport(agent.address));

beforeAll(async () => {
  dir = await dataFolder("host");
  agent = await start({ dir, token, listen: "127.0.0.1:0", poolSize: "0" }, quiet);
});

afterAll(async () => {
  if (!agent) return;
  for (const { id } of (await rpc().listSandboxes({})).sandboxes) await rpc().destroySandbox({ id });
  for (const { id } of (await rpc().listSnapshots({})).snapshots) await rpc().deleteSnapshot({ id });
  await agent.stop({ pause: true });
  expect(processesOf(dir)).toEqual([]);
  using journal = new Journal(`${dir}/agent.db`);
  expect([...journal.sandboxes.all(), ...journal.snapshots.all(), ...journal.layers.all()]).toEqual([]);
  for (const folder of ["sandboxes", "snapshots", "layers", "bases"])
    expect(await Array.fromAsync(new Bun.Glob("**").scan({ cwd: `${dir}/${folder}`, dot: true }))).toEqual([]);
  await keepTemplates(dir);
  await rm(dir, { recursive: true });
});

/** A new sandbox of `base`, or one that starts from a checkpoint. */
async function created(snapshot = ""): Promise<string> {
  const id = newSandboxId();
  const { sandbox } = await rpc().createSandbox({ id, run: 1n, template: "base", snapshot });
  expect(sandbox!.state).toBe(SandboxState.RUNNING);
  return id;
}

/** Runs a line of shell as root; gives what it printed on both outputs. */
async function sh(id: string, line: string): Promise<string> {
  const guest = createClient(processes.Process, transport(agent.address + proxyPath(id, agentPort)));
  const request = { process: { cmd: "/bin/sh", args: ["-c", line], envs: {}, cwd: "/root" }, stdin: false };
  let text = "";
  for await (const { event } of guest.start(request, { headers: { Authorization: `Basic ${btoa("root:")}` } }))
    if (event?.event.case === "data") text += new TextDecoder().decode(event.event.value.output.value);
  return text.trimEnd();
}

/** Puts a word into memory and onto the disk. */
const remember = (id: string, word: string) => sh(id, `echo ${word} > /dev/shm/word; echo ${word} > /root/word; sync`);
const recall = (id: string) => sh(id, "cat /dev/shm/word /root/word");

describe("checkpoints", () => {
  test("three forks start from one instant and go their own ways; the source and a roll back too", async () => {
    const source = await created();
    await remember(source, "first");
    const { snapshot } = await rpc().checkpointSandbox({ id: source, children: 2 }); // the third is started from its files
    await remember(source, "second");

    const forks = await Promise.all([1, 2, 3].map(() => created(snapshot!.id)));
    for (const fork of forks) expect(await recall(fork)).toBe("first\nfirst");
    await Promise.all(forks.map((fork, at) => remember(fork, `fork-${at}`)));
    for (const [at, fork] of forks.entries()) expect(await recall(fork)).toBe(`fork-${at}\nfork-${at}`);
    expect(await recall(source)).toBe("second\nsecond");
    const facts = await Promise.all([source, ...forks].map((id) => sh(id, "hostname; cat /etc/machine-id")));
    expect(new Set(facts.flatMap((text) => text.split("\n"))).size).toBe(8);

    const back = await rpc().rollbackSandbox({ id: source, run: 2n, snapshot: snapshot!.id });
    expect(back.sandbox).toMatchObject({ state: SandboxState.RUNNING, run: 2n });
    expect(await recall(source)).toBe("first\nfirst");

    await rpc().deleteSnapshot({ id: snapshot!.id });
    expect(await recall(source)).toBe("first\nfirst");
    expect(await recall(forks[0]!)).toBe("fork-0\nfork-0");
    expect(await created(snapshot!.id).catch(fromConnectError)).toMatchObject({ code: "not_found" });
    for (const id of [source, ...forks]) await rpc().destroySandbox({ id });
  });
});

describe("a pause of the disk alone", () => {
  test("keeps files and gives processes up: the machine boots, is as usable as a new one, and keeps its memory again", async () => {
    const id = newSandboxId();
    await rpc().createSandbox({ id, run: 1n, template: "base", diskMib: 7_000, envs: { FROM_CREATE: "yes" } });
    const facts = "cat /proc/sys/kernel/random/boot_id; hostname; df --output=size -m / | tail -1; echo $FROM_CREATE";
    const before = (await sh(id, facts)).split("\n");
    await sh(id, "echo written > /root/word; setsid sleep 600 >/dev/null 2>&1 & echo unsynced > /root/late");
    expect((await rpc().pauseSandbox({ id, diskOnly: true })).sandbox).toMatchObject({ diskOnly: true });
    await rpc().resumeSandbox({ id, run: 2n });
    const after = (await sh(id, facts)).split("\n");
    expect(after[0]).not.toBe(before[0]);
    expect(after.slice(1)).toEqual(before.slice(1));
    expect(await sh(id, "cat /root/word /root/late; pgrep -x sleep || echo none")).toBe("written\nunsynced\nnone");
    await remember(id, "of the second life");
    expect((await rpc().pauseSandbox({ id })).sandbox).toMatchObject({ diskOnly: false });
    await rpc().resumeSandbox({ id, run: 3n });
    expect(await recall(id)).toBe("of the second life\nof the second life");
    expect(await sh(id, "cat /proc/sys/kernel/random/boot_id")).toBe(after[0]!);
    await rpc().destroySandbox({ id });
  });

  test("memory that was kept is given up by a resume that wants the disk: nothing written is lost", async () => {
    const id = await created();
    await sh(id, "echo held back > /root/word; echo gone > /dev/shm/word");
    await rpc().pauseSandbox({ id });
    await rpc().resumeSandbox({ id, run: 2n, diskOnly: true });
    expect(await sh(id, "cat /root/word; ls /dev/shm")).toBe("held back");
    const { snapshot } = await rpc().checkpointSandbox({ id, diskOnly: true });
    expect(await sh(await created(snapshot!.id), "cat /root/word")).toBe("held back");
    await rpc().deleteSnapshot({ id: snapshot!.id });
    for (const one of (await rpc().listSandboxes({})).sandboxes) await rpc().destroySandbox({ id: one.id });
  });
});

describe("sizes", () => {
  test("a larger disk is the sandbox's from its first command on, and after a pause; its template stays", async () => {
    const id = newSandboxId();
    const large = { id, run: 1n, template: "base", diskMib: 7_000 };
    expect((await rpc().createSandbox(large)).sandbox!.diskMib).toBe(7_000);
    const size = async (sandbox: string) => Number(await sh(sandbox, "df --output=size -m / | tail -1"));
    expect(await size(id)).toBeGreaterThan(6_500);
    await remember(id, "on the larger disk");
    await rpc().pauseSandbox({ id });
    await rpc().resumeSandbox({ id, run: 2n });
    expect(await size(id)).toBeGreaterThan(6_500);
    expect(await recall(id)).toBe("on the larger disk\non the larger disk");
    const other = await created();
    expect(await size(other)).toBeLessThan(5_200);
    for (const one of [id, other]) await rpc().destroySandbox({ id: one });
  });
});

describe("isolation", () => {
  let id: string;
  beforeAll(async () => {
    id = await created();
  });
  afterAll(() => rpc().destroySandbox({ id }));

  const isRoot = process.getuid?.() === 0;
  (isRoot ? test : test.skip)(
    isRoot
      ? "each VMM runs as a user of its own, without privileges, behind a system call filter"
      : "a user of its own — skipped: only root can start processes of other users",
    async () => {
      const other = await created();
      const pids = [id, other].map(vmOf);
      for (const pid of pids) {
        expect(statusOf(pid, "Seccomp")).toEqual([2]);
        expect(statusOf(pid, "CapEff")).toEqual([0]);
        expect(statusOf(pid, "NoNewPrivs")).toEqual([1]);
        for (const uid of statusOf(pid, "Uid")) expect(uid).toBeGreaterThanOrEqual(0x6000_0000);
      }
      expect(new Set(pids.map((pid) => statusOf(pid, "Uid")[0])).size).toBe(2);
      await rpc().destroySandbox({ id: other });
    },
  );

  test("a guest reaches neither this machine nor its networks, nor a sandbox beside it", async () => {
    const heard: string[] = [];
    const listen = (hostname: string) =>
      Bun.listen({ hostname, port: 0, socket: { open: (socket) => void heard.push(socket.localAddress), data() {} } });
    const own = Object.values(networkInterfaces()).flat();
    const addresses = ["127.0.0.1", ...own.filter((one) => one?.family === "IPv4").map((one) => one!.address)];
    const listeners = [...new Set(addresses)].map(listen);
    // The gateway is this machine's loopback in QEMU's user networking.
    const targets = listeners.flatMap(({ hostname, port }) =>
      hostname === "127.0.0.1" ? [`169.254.0.22:${port}`, `127.0.0.1:${port}`] : [`${hostname}:${port}`],
    );
    targets.push(...["10.0.0.1:80", "192.168.0.1:80", "172.16.0.1:80", "169.254.169.254:80", "100.64.0.1:80"]);
    targets.push(`169.254.0.22:${new URL(agent.address).port}`);
    const tries = targets.map(
      (to) => `socat -T1 - TCP:${to},connect-timeout=2 </dev/null 2>/dev/null && echo ${to} & `,
    );
    try {
      expect(await sh(id, `${tries.join("")} wait`)).toBe("");
    } finally {
      for (const listener of listeners) listener.stop(true);
    }
    expect(heard).toEqual([]);
  });
});

describe("snapshots", () => {
  test("a flipped byte of memory is refused and named, and the sandbox stays paused", async () => {
    const id = await created();
    await remember(id, "whole");
    await rpc().pauseSandbox({ id });
    const folder = `${dir}/snapshots/${journaled(id)!.snapshot}`;
    const [file] = await Array.fromAsync(new Bun.Glob("memory.*").scan({ cwd: folder, absolute: true }));
    const flip = () => flipByte(file!);
    await flip();
    const thrown = await rpc().resumeSandbox({ id, run: 2n }).catch(fromConnectError);
    expect((thrown as Error).message).toContain(`${file} is damaged: its checksum differs`);
    expect(thrown).toHaveProperty("remedy");
    expect((await rpc().getSandbox({ id })).sandbox).toMatchObject({ state: SandboxState.PAUSED, run: 1n });
    expect(vmsOf(dir)).toEqual([]);

    await flip();
    await rpc().resumeSandbox({ id, run: 2n });
    expect(await recall(id)).toBe("whole\nwhole");
    await rpc().destroySandbox({ id });
  });

  test("64 MiB of random and zeroed pages keep their sum over five rounds of pause and resume", async () => {
    const id = await created();
    // Pages that held data and are zero again must come back as zeros, not as the template's.
    await sh(id, "head -c 67108864 /dev/urandom > /dev/shm/random; head -c 33554432 /dev/urandom > /dev/shm/zeros");
    await sh(id, "dd if=/dev/zero of=/dev/shm/zeros bs=1M count=32 conv=notrunc status=none");
    const sums = await sh(id, "cksum /dev/shm/random /dev/shm/zeros");
    expect(sums.split("\n").length).toBe(2);
    for (let round = 2n; round <= 6n; round++) {
      const vm = vmOf(id);
      await rpc().pauseSandbox({ id });
      expect(isAlive(vm)).toBe(false);
      // What the pause before saved is not written again: at most 8 MiB are zeroed in a round, and zeros need no bytes.
      const { memoryBytes } = pausedTo(id);
      expect(memoryBytes > 64 * mib).toBe(round === 2n);
      await rpc().resumeSandbox({ id, run: round });
      expect(await sh(id, "cksum /dev/shm/random /dev/shm/zeros")).toBe(sums);
      await sh(id, `dd if=/dev/zero of=/dev/shm/zeros bs=1M count=${round} conv=notrunc status=none`);
    }
    await rpc().destroySandbox({ id });
  });
});

const mib = 2 ** 20;

/** The snapshot that a paused sandbox resumes from. */
function pausedTo(id: string) {
  using journal = new Journal(`${dir}/agent.db`);
  return journal.snapshots.get(journal.sandboxes.get(id)!.snapshot!)!;
}

function journaled(id: string) {
  using journal = new Journal(`${dir}/agent.db`);
  return journal.sandboxes.get(id);
}

const vmOf = (id: string): number => journaled(id)!.machine!.handle.pid;

async function flipByte(path: string): Promise<void> {
  await using file = await open(path, "r+");
  const { size } = await file.stat();
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, size - 4096);
  byte[0]! ^= 1;
  await file.write(byte, 0, 1, size - 4096);
}
