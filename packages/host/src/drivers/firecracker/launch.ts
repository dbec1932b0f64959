import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { readFile, rmdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import { withSocketPath } from "../../socket-path.ts";
import { ownerOf } from "../owner.ts";
import type { Nic, VmSpec } from "../ports.ts";
import { killProcess, spawnVmm, startTimeOf } from "../process.ts";
import { FirecrackerApi, type Patience } from "./api.ts";
import { type Home, jailHome, plainHome, socketName } from "./home.ts";

/** The programs, and how VMs are kept apart. */
export type Machine = {
  readonly binary: string;
  /** `undefined`: Firecracker runs unjailed, under a user of its own where the agent is root. */
  readonly jailer: string | undefined;
  /** Group of VMM processes: the one that may open `/dev/kvm`. */
  readonly gid: number;
  /** How long its API may take; `undefined` for what suits any machine. */
  readonly patience?: Patience | undefined;
};

/** A process that answers on its API. */
export type Launched = {
  readonly api: FirecrackerApi;
  readonly home: Home;
  readonly pid: number;
  readonly startTime: string;
  readonly exited: Promise<string>;
};

/** A process to which there is no connection is looked at this often. */
const exitPollMs = 500;

/** Once its connection has ended a process is as good as gone: looked at this often, as many times. */
const lastLooks = { everyMs: 5, times: 100 };

/** Where the control groups of our VMs are. */
const cgroupRoot = "/sys/fs/cgroup/wrenn";

/** The kernel lets a group go within milliseconds of its last thread's end, on a busy machine later. */
const groupLooks = 500;

/** Beside the guest's memory: Firecracker itself, its page tables, the kernel's buffers. */
const overheadMib = 64;

/** Firecracker starts a thread for each processor, one for its API and one of its own. */
const mostThreads = (vcpus: number): number => vcpus + 16;

/** Files that Firecracker opens: disk, tap, KVM, memory, events of each device. */
const mostFiles = 512;

/** Starts Firecracker for a VM; `furnish` puts into its home what it is to find. On any throw no process is left. */
export async function launch(
  machine: Machine,
  spec: VmSpec,
  furnish: (home: Home) => Promise<void>,
): Promise<Launched> {
  const { jailer } = machine;
  const home = homeOf(machine, spec);
  home.prepare();
  // It takes nothing of what it is to find before it is told to by its API.
  const starting = jailer ? startJailed(machine, jailer, spec, home) : startPlain(machine, spec, home);
  starting.catch(() => {}); // thrown where it is waited for
  const furnished = await furnish(home).catch((thrown: unknown) => ({ thrown }));
  const started = await starting;
  const api = new FirecrackerApi(home.socket, machine.patience);
  try {
    if (furnished) throw furnished.thrown;
    if (!jailer) await spec.confine?.(started.pid); // the jailer has bounds of its own
    await api.ready(() => startTimeOf(started.pid) === started.startTime);
    return { ...started, api, home };
  } catch (thrown) {
    await killProcess({ ...started, ports: [] });
    await releaseGroup(spec.name);
    throw await explained(thrown, `${spec.dir}/vmm.log`);
  }
}

/** The folder that the Firecracker of a VM has, or will have. */
export const homeOf = ({ binary, jailer, gid }: Machine, spec: VmSpec): Home =>
  jailer ? jailHome(spec, gid, basename(binary)) : plainHome(spec, gid);

type Started = Pick<Launched, "pid" | "startTime" | "exited">;

async function startPlain(machine: Machine, spec: VmSpec, home: Home): Promise<Started> {
  const argv = [machine.binary, "--api-sock", socketName, "--id", spec.name.slice(0, 64)];
  const child = spawnVmm(argv, {
    ...{ link: spec.nic.link, uid: ownerOf(spec.name), gid: machine.gid, cwd: home.root, log: `${spec.dir}/vmm.log` },
  });
  const exited = child.exited.then((code) =>
    child.signalCode ? `killed by ${child.signalCode}` : `exit status ${code}`,
  );
  return { pid: child.pid, startTime: startTimeOf(child.pid) ?? "", exited };
}

/** The jailer ends once Firecracker runs in its name spaces, and leaves its process id in a file. */
async function startJailed(machine: Machine, jailer: string, spec: VmSpec, home: Home): Promise<Started> {
  const child = spawnVmm([jailer, ...jailArguments(machine, spec)], {
    ...{ link: { kind: "user", guestPorts: [], isOpen: false } as Nic["link"], uid: undefined, gid: machine.gid },
    ...{ cwd: spec.dir, log: `${spec.dir}/vmm.log` },
  });
  const code = await child.exited;
  const pid = Number(await readFile(`${home.root}/${basename(machine.binary)}.pid`, "utf8").catch(() => "0"));
  if (code !== 0 || !pid)
    throw await explained(new WrennError("agent_error", `the jailer ended with status ${code}`), `${spec.dir}/vmm.log`);
  const startTime = startTimeOf(pid) ?? "";
  return { pid, startTime, exited: untilGone(home.socket, () => startTimeOf(pid) === startTime) };
}

function jailArguments(machine: Machine, spec: VmSpec): string[] {
  const { link } = spec.nic;
  const uid = ownerOf(spec.name);
  if (link.kind !== "tap" || uid === undefined) throw new WrennError("agent_error", "the jailer needs root and taps");
  const periodUs = 100_000;
  const limits = {
    "memory.max": `${(spec.memoryMib + overheadMib) * 2 ** 20}`,
    "pids.max": `${mostThreads(spec.vcpus)}`,
    // A little beyond the guest's processors: the VMM's own threads work for it too.
    "cpu.max": `${Math.round((spec.vcpus + 0.5) * periodUs)} ${periodUs}`,
  };
  return [
    ...["--id", "vm", "--exec-file", machine.binary, "--uid", `${uid}`, "--gid", `${machine.gid}`],
    ...["--chroot-base-dir", spec.dir, "--netns", `/run/netns/${link.netns}`, "--new-pid-ns"],
    ...["--cgroup-version", "2", "--parent-cgroup", `wrenn/${spec.name}`],
    ...Object.entries(limits).flatMap(([file, value]) => ["--cgroup", `${file}=${value}`]),
    ...["--resource-limit", `no-file=${mostFiles}`],
    ...["--", "--api-sock", socketName],
  ];
}

/** The control groups of a VM that has ended; the jailer leaves them behind. */
export async function releaseGroup(name: string): Promise<void> {
  for (const group of [`${cgroupRoot}/${name}/vm`, `${cgroupRoot}/${name}`])
    for (let left = groupLooks; left > 0; left--) {
      // Not asked whether it is there: access(2) does not look with an agent's capabilities into what the jailer made.
      const code = await rmdir(group).then(
        () => "",
        (thrown: NodeJS.ErrnoException) => thrown.code,
      );
      if (code !== "EBUSY") break; // gone, or never there
      await Bun.sleep(10);
    }
}

/**
 * Settles when `alive` says no, for a process that is no child of this one. Its end ends a connection to its socket, so
 * that an agent with many idle VMs has nothing to look at.
 */
export async function untilGone(socket: string, alive: () => boolean): Promise<string> {
  while (alive()) {
    const wasConnected = await untilClosed(socket);
    for (let left = wasConnected ? lastLooks.times : 0; left > 0 && alive(); left--) await Bun.sleep(lastLooks.everyMs);
    if (alive()) await Bun.sleep(exitPollMs);
  }
  return "ended";
}

/** Connects and says nothing until the other side ends it; false when nobody listens. */
function untilClosed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = { data: () => {}, close: () => resolve(true), error: () => resolve(true) };
    withSocketPath(path, (unix) => Bun.connect({ unix, socket })).catch(() => resolve(false));
  });
}

/** Firecracker processes whose folder lies below `root`, with the name of each one's VM. */
export async function processesBelow(machine: Machine, root: string): Promise<{ pid: number; name: string }[]> {
  return machine.jailer ? jailedBelow(root, basename(machine.binary)) : plainBelow(root);
}

/** An unjailed one works in its VM's folder. */
function plainBelow(root: string): { pid: number; name: string }[] {
  const found: { pid: number; name: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    const home = Number.isInteger(pid) ? look(() => readlinkSync(`/proc/${pid}/cwd`)) : undefined;
    const program = home && look(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
    if (home?.startsWith(`${root}/`) && program?.includes(socketName)) found.push({ pid, name: basename(home) });
  }
  return found;
}

/** A jailed one has left its process id in its jail, which is its root directory; names of it lead nowhere from here. */
async function jailedBelow(root: string, program: string): Promise<{ pid: number; name: string }[]> {
  const found: { pid: number; name: string }[] = [];
  if (!existsSync(root)) return found; // a glob throws then
  for (const depth of ["", "*/", "*/*/"])
    for await (const file of new Bun.Glob(`${depth}${program}/vm/root/${program}.pid`).scan({ cwd: root })) {
      const jail = dirname(`${root}/${file}`);
      const pid = Number(look(() => readFileSync(`${root}/${file}`, "utf8")) ?? 0);
      const [its, mine] = [look(() => statSync(`/proc/${pid}/root`)), look(() => statSync(jail))];
      if (its && its.ino === mine?.ino && its.dev === mine.dev)
        found.push({ pid, name: basename(dirname(dirname(dirname(jail)))) });
    }
  return found;
}

function look<T>(at: () => T): T | undefined {
  try {
    return at();
  } catch {
    return undefined; // it ended while we looked
  }
}

/** The VMM says on stderr why it ended; without that an operator would see only that it did. */
async function explained(thrown: unknown, log: string): Promise<unknown> {
  const text = await readFile(log, "utf8").catch(() => "");
  const said = text.trim().split("\n").slice(-3).join("; ");
  if (!said || !(thrown instanceof WrennError)) return thrown;
  return new WrennError(thrown.code, `${thrown.message}: ${said}`, { remedy: thrown.remedy, cause: thrown.cause });
}
