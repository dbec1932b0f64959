import { existsSync, writeFileSync } from "node:fs";
import { mkdir, open, readdir, readFile, rm } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { Gate, type GateGround } from "../../egress/gate.ts";
import { openGround } from "../../egress/ground.ts";
import { NameServer } from "../../egress/name-server.ts";
import { Judge, needsGate } from "../../egress/policy.ts";
import { flowsIn } from "../../egress/seen.ts";
import { nameservers } from "../floor.ts";
import { inNetwork } from "../libc.ts";
import type { Flows, NetCounters, NetPolicy, Nets, Nic } from "../ports.ts";
import { lastSlot, type Slot, slot, slotOfPeer, tapNet } from "./addresses.ts";
import { run } from "./commands.ts";
import { hostRules, netnsRules, netnsTable, noted, openPolicy, policyRules } from "./rules.ts";

/** Who has which slot of this machine. In memory, as name spaces are: a restart of the machine ends both. */
const register = "/run/wrenn/net";

/**
 * What stands in the register: the data folder of the agent, the sandbox (empty while it waits) and its policy, without
 * the headers that it sets, which may be secrets.
 */
type Entry = {
  readonly dir: string;
  readonly sandbox: string;
  readonly isMade: boolean;
  readonly policy?: NetPolicy | undefined;
};

/** A slot in use. Changes of its policy take turns. */
type Taken = { readonly slot: Slot; judge: Judge; gate?: Gate | undefined; turn: Promise<unknown> };

const taken = (slot: Slot, policy: NetPolicy): Taken => ({ slot, judge: new Judge(policy), turn: Promise.resolve() });

export type NetnsTapOptions = {
  /** The agent's data folder: agents of other folders have slots of their own. */
  readonly dir: string;
  /** Group of VMM processes, which may open the taps. */
  readonly gid: number;
  /** Name spaces kept ready. */
  readonly ready: number;
};

/**
 * A network name space for each sandbox, with a tap for the VMM and a way to this machine. Some are kept ready, so that
 * a create waits for none; a used one is never used again.
 */
export class NetnsTap implements Nets, AsyncDisposable {
  readonly name = "netns-tap";
  readonly gives = "tap" as const;
  readonly egress = { holdsPolicies: true, isOpen: true, detail: "floor: public addresses only" };
  readonly #taken = new Map<string, Taken>();
  readonly #ready: Slot[] = [];
  /** Slots of a former agent of this folder, by sandbox, until they are attached again or swept. */
  readonly #former = new Map<string, Taken>();
  #background: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  #last = Math.floor(Math.random() * lastSlot);
  #names!: NameServer;
  #ground!: GateGround;

  private constructor(
    readonly options: NetnsTapOptions,
    readonly log: Logger,
  ) {}

  /** Lays this machine's rules, starts the guests' name service and begins to fill the pool. */
  static async start(options: NetnsTapOptions, log: Logger): Promise<NetnsTap> {
    const nets = new NetnsTap(options, log);
    await mkdir(register, { recursive: true, mode: 0o700 });
    const servers = await nameservers();
    nets.#ground = await openGround(options.dir, servers, log);
    const rules = { allows: (peer: string, name: string) => nets.#mayAsk(peer, name) };
    nets.#names = await NameServer.start(servers, rules, log);
    await Bun.write("/proc/sys/net/ipv4/ip_forward", "1");
    await run(["nft", "-f", "-"], hostRules(nets.#names.port));
    await nets.#findFormer();
    nets.#refill();
    return nets;
  }

  async attach(sandbox: string, isolated = false): Promise<Nic> {
    const present = this.#taken.get(sandbox);
    if (present) return this.#nic(sandbox, present.slot);
    const former = this.#former.get(sandbox);
    this.#former.delete(sandbox);
    const its = former ?? taken(this.#ready.shift() ?? (await this.#make()), openPolicy);
    this.#write(its.slot, { sandbox, isMade: true, policy: its.judge.policy });
    this.#taken.set(sandbox, its);
    this.#refill();
    const nic = this.#nic(sandbox, its.slot);
    if (!isolated) return nic;
    return this.#setPolicy(sandbox, { ...openPolicy, internet: false }).then(
      () => nic,
      async (thrown) => {
        await nic[Symbol.asyncDispose]();
        throw thrown;
      },
    );
  }

  async sweep(): Promise<void> {
    const left = [...this.#former.values()];
    this.#former.clear();
    for (const { slot } of left) await this.#remove(slot);
  }

  /** Settles when nothing is being made or removed. */
  async settled(): Promise<void> {
    for (let last: unknown; last !== this.#background; ) {
      last = this.#background;
      await last;
    }
  }

  /** Removes the name spaces that wait. Those of running VMs stay, for whoever adopts them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.settled();
    for (const waiting of this.#ready.splice(0)) await this.#remove(waiting);
    for (const { gate } of this.#taken.values()) await gate?.[Symbol.asyncDispose]();
    await this.#names[Symbol.asyncDispose]();
  }

  #nic(sandbox: string, { netns, reachIp, hostDevice }: Slot): Nic {
    return {
      link: { kind: "tap", netns, dev: "tap0" },
      guestIp: tapNet.ip,
      forwarded: () => {}, // every port is reachable
      reach: (guestPort) => `${reachIp}:${guestPort}`,
      setPolicy: (policy) => this.#setPolicy(sandbox, policy),
      flows: () => this.#flows(sandbox, netns),
      counters: () => counters(hostDevice),
      [Symbol.asyncDispose]: async () => {
        const its = this.#taken.get(sandbox);
        if (!its || !this.#taken.delete(sandbox)) return;
        this.#later(async () => {
          await its.turn;
          await its.gate?.[Symbol.asyncDispose]();
          await this.#remove(its.slot);
        }); // what comes next need not wait for it
      },
    };
  }

  /** Puts a policy in force, after those that were asked for before. */
  #setPolicy(sandbox: string, policy: NetPolicy): Promise<void> {
    const its = this.#taken.get(sandbox);
    if (!its) throw new WrennError("invalid_state", "the network is gone");
    const result = its.turn.then(() => this.#hold(sandbox, its, policy));
    its.turn = result.catch(() => {});
    return result;
  }

  async #hold(sandbox: string, its: Taken, policy: NetPolicy): Promise<void> {
    const { netns } = its.slot;
    const former = its.gate;
    const next = needsGate(policy) ? (former ?? (await this.#openGate(netns, policy))) : undefined;
    await next?.use(policy);
    its.gate = next;
    await run(["ip", "netns", "exec", netns, "nft", "-f", "-"], policyRules(policy, next?.port));
    its.judge = new Judge(policy);
    this.#write(its.slot, { sandbox, isMade: true, policy });
    if (!next) await former?.[Symbol.asyncDispose]();
    await limit(netns, "tap0", policy.receiveMbit);
    await limit(netns, "eth0", policy.transmitMbit);
  }

  /** What the gate saw, and what the kernel let by or refused without one. */
  async #flows(sandbox: string, netns: string): Promise<Flows> {
    const inSet = (set: string) => flowsIn(["ip", "netns", "exec", netns, "nft"], netnsTable, set);
    const [allowed, denied] = await Promise.all([inSet(noted.allowed), inSet(noted.denied)]);
    const led = this.#taken.get(sandbox)?.gate?.ledger.flows ?? { allowed: [], denied: [] };
    return { allowed: [...led.allowed, ...allowed], denied: [...led.denied, ...denied] };
  }

  /** A gate in the sandbox's own name space, where the kernel knows whom a connection was for before it was led there. */
  #openGate(netns: string, policy: NetPolicy): Promise<Gate> {
    const within = <T>(act: () => T): T => inNetwork(`/run/netns/${netns}`, act);
    return Gate.openAt({ hostname: tapNet.gateway, within }, this.#ground, policy);
  }

  #takenBy(peerIp: string): Taken | undefined {
    const index = slotOfPeer(peerIp)?.index;
    for (const its of this.#taken.values()) if (its.slot.index === index) return its;
    return undefined;
  }

  #mayAsk(peerIp: string, name: string): boolean {
    const its = this.#takenBy(peerIp);
    return its !== undefined && (its.gate ?? its.judge).mayAsk(name);
  }

  /** Fills the pool in the background. */
  #refill(): void {
    this.#later(async () => {
      while (!this.#isClosed && this.#ready.length < this.options.ready) this.#ready.push(await this.#make());
    });
  }

  #later(act: () => Promise<void>): void {
    this.#background = this.#background.then(act).catch((error) => this.log.warn({ error }, "networks"));
  }

  async #make(): Promise<Slot> {
    const free = await this.#reserve();
    try {
      await makeNetns(free, this.options.gid);
      this.#write(free, { sandbox: "", isMade: true });
      return free;
    } catch (thrown) {
      await this.#remove(free);
      throw thrown;
    }
  }

  /**
   * A slot that nobody has, and nobody had just before: a connection that was kept for the former sandbox at an address
   * must not be tried on the next. Making the register's file is what takes it.
   */
  async #reserve(): Promise<Slot> {
    const names = new Set(await readdir(register));
    for (let tries = 0; tries < lastSlot; tries++) {
      this.#last = (this.#last % lastSlot) + 1;
      const index = this.#last;
      if (names.has(`${index}`)) continue;
      try {
        await using file = await open(`${register}/${index}`, "wx", 0o600);
        await file.writeFile(JSON.stringify({ dir: this.options.dir, sandbox: "", isMade: false } satisfies Entry));
        return slot(index);
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown; // else another agent was faster
      }
    }
    throw new WrennError("no_hosts_available", `all ${lastSlot} networks of this machine are in use`);
  }

  /** At once: the file is in memory, and another thread would take longer to be asked. A create waits for this. */
  #write(of: Slot, entry: Omit<Entry, "dir">): void {
    const { rewrites: _, authority: __, ...policy } = entry.policy ?? openPolicy;
    writeFileSync(`${register}/${of.index}`, JSON.stringify({ dir: this.options.dir, ...entry, policy }));
  }

  async #remove(used: Slot): Promise<void> {
    // The link first: a name space is taken apart in the kernel's own time, and its number is free at once.
    await run(["ip", "link", "del", used.hostDevice]).catch(() => {});
    if (existsSync(`/run/netns/${used.netns}`)) await run(["ip", "netns", "del", used.netns]);
    await rm(`${register}/${used.index}`, { force: true });
  }

  /** What a former agent of this folder had. Waiting name spaces are taken over, half-made ones removed. */
  async #findFormer(): Promise<void> {
    for (const name of await readdir(register)) {
      const entry = await readFile(`${register}/${name}`, "utf8")
        .then((text) => JSON.parse(text) as Entry)
        .catch(() => undefined);
      if (entry?.dir !== this.options.dir) continue;
      const theirs = slot(Number(name));
      if (!entry.isMade || !existsSync(`/run/netns/${theirs.netns}`)) await this.#remove(theirs);
      else if (entry.sandbox) this.#former.set(entry.sandbox, taken(theirs, entry.policy ?? openPolicy));
      else this.#ready.push(theirs);
    }
  }
}

async function makeNetns(free: Slot, gid: number): Promise<void> {
  const { netns, hostDevice, hostIp, peerIp, reachIp } = free;
  const outside = [
    `netns add ${netns}`,
    `link add ${hostDevice} type veth peer name eth0 netns ${netns}`,
    `addr add ${hostIp}/31 dev ${hostDevice}`,
    `link set ${hostDevice} up`,
    `route add ${reachIp}/32 via ${peerIp} dev ${hostDevice}`,
  ];
  const inside = [
    "link set lo up",
    `addr add ${peerIp}/31 dev eth0`,
    "link set eth0 up",
    `tuntap add dev tap0 mode tap group ${gid}`,
    `link set tap0 address ${tapNet.gatewayMac}`,
    `addr add ${tapNet.gateway}/${tapNet.prefix} dev tap0`,
    "link set tap0 up",
    `neigh add ${tapNet.ip} lladdr ${tapNet.guestMac} dev tap0 nud permanent`,
    `route add default via ${hostIp}`,
  ];
  await run(["ip", "-batch", "-"], outside.join("\n"));
  await run(["ip", "-n", netns, "-batch", "-"], inside.join("\n"));
  const settings = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
  await run(["ip", "netns", "exec", netns, "sh", "-c", `${settings}; exec nft -f -`], netnsRules(free));
}

/** Bounds what leaves through a device; what a tap sends is what the guest receives. */
async function limit(netns: string, device: string, mbit: number | undefined): Promise<void> {
  const tc = ["tc", "-n", netns, "qdisc"];
  if (mbit === undefined) return void (await run([...tc, "del", "dev", device, "root"]).catch(() => {}));
  const burstBytes = Math.max(32_768, Math.round((mbit * 1e6) / 8 / 100)); // ten milliseconds' worth, a few packets at least
  const how = ["rate", `${mbit}mbit`, "burst", `${burstBytes}`, "latency", "50ms"];
  await run([...tc, "replace", "dev", device, "root", "tbf", ...how]);
}

async function counters(hostDevice: string): Promise<NetCounters> {
  const read = async (name: string) =>
    Number(await readFile(`/sys/class/net/${hostDevice}/statistics/${name}`, "utf8").catch(() => "0"));
  const [sentBytes, receivedBytes, sentPackets, receivedPackets] = await Promise.all(
    ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets"].map(read), // what the guest sends is what this machine receives
  );
  return {
    sentBytes: sentBytes!,
    receivedBytes: receivedBytes!,
    sentPackets: sentPackets!,
    receivedPackets: receivedPackets!,
  };
}
