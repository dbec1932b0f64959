import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";

/**
 * An internet for one test, in network name spaces of its own: one in which Wrenn runs, and one that it reaches, with
 * addresses of each kind. Who is there answers on all of them, so that a refusal is the floor's doing, not for want of
 * anybody.
 */
export const world = {
  /** The way out, and the name server. */
  gateway: "198.51.100.2",
  /** Where the hosts `good.test`, `other.test` and those below `sub.test` are: one address for all. */
  shared: "203.0.113.9",
  elsewhere: "203.0.113.77",
  private: "10.99.0.1",
  metadata: "169.254.169.254",
  /** The machine's own, in public space. */
  own: "198.51.100.1",
} as const;

/** Why there can be no such internet here; `undefined` when there can. */
export function lacking(): string | undefined {
  if (process.getuid?.() !== 0) return "network name spaces need root";
  const missing = ["ip", "nft"].find((name) => !Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }));
  if (missing) return `the program ${missing} is missing`;
  const tried = Bun.spawnSync(["ip", "netns", "add", "wrenn-probe"], { stderr: "pipe" });
  if (tried.exitCode !== 0) return `no network name space: ${tried.stderr.toString().trim()}`;
  const rules = Bun.spawnSync(["ip", "netns", "exec", "wrenn-probe", "nft", "list", "tables"], { stderr: "pipe" });
  Bun.spawnSync(["ip", "netns", "del", "wrenn-probe"]);
  return rules.exitCode === 0 ? undefined : `no nftables: ${rules.stderr.toString().trim()}`;
}

/** Runs programs in the name space that has this internet around it. */
export class Internet implements AsyncDisposable {
  private constructor(
    readonly inside: string,
    readonly outside: string,
    /** Certificate of the authority that the hosts' certificates are of. */
    readonly authority: string,
    readonly folder: string,
    readonly server: Bun.Subprocess<"ignore", "pipe", "inherit">,
  ) {}

  static async make(): Promise<Internet> {
    const [inside, outside] = [`wrenn-in-${process.pid}`, `wrenn-out-${process.pid}`];
    const addresses = [world.shared, world.elsewhere, world.private, world.metadata].map(
      (ip) => `-n ${outside} addr add ${ip}/32 dev lo`,
    );
    const commands = [
      `netns add ${inside}`,
      `netns add ${outside}`,
      `-n ${inside} link add eth0 type veth peer name eth0 netns ${outside}`,
      ...[inside, outside].map((ns) => `-n ${ns} link set lo up`),
      ...[inside, outside].map((ns) => `-n ${ns} link set eth0 up`),
      `-n ${inside} addr add ${world.own}/24 dev eth0`,
      `-n ${outside} addr add ${world.gateway}/24 dev eth0`,
      ...addresses,
      `-n ${inside} route add default via ${world.gateway}`,
    ];
    for (const command of commands) await Bun.$`ip ${command.split(" ")}`.quiet();
    await mkdir(`/etc/netns/${inside}`, { recursive: true });
    await Bun.write(`/etc/netns/${inside}/resolv.conf`, `nameserver ${world.gateway}\n`);
    const folder = await mkdtemp(`${tmpdir()}/wrenn-internet-`);
    const server = Bun.spawn(
      ["ip", "netns", "exec", outside, process.execPath, `${import.meta.dir}/internet-server.ts`, folder],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    await server.stdout.getReader().read(); // says when all of it listens
    return new Internet(inside, outside, `${folder}/ca.pem`, folder, server);
  }

  /** Runs a program in there to its end; gives its exit code. */
  async run(argv: readonly string[], env: Record<string, string> = {}): Promise<number> {
    const child = Bun.spawn(["ip", "netns", "exec", this.inside, ...argv], {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, ...env },
    });
    return await child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.kill();
    await this.server.exited;
    for (const name of [this.inside, this.outside]) await Bun.$`ip netns del ${name}`.nothrow().quiet();
    for (const path of [`/etc/netns/${this.inside}`, this.folder])
      if (existsSync(path)) await rm(path, { recursive: true });
  }
}
