import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { WrennError } from "@wrenn/contract";

/** One person's next sandbox; hosts that serve many are told a higher number. */
const defaultPoolSize = 1;

/** A minute less than the five that service managers are told to wait (deploy/). */
const defaultDrainSeconds = 240;

/** A registered host's certificate with its key, and the authority that signs its callers' certificates; PEM. */
export type Credentials = { readonly cert: string; readonly key: string; readonly ca: string };

/** What people write: flags and environment. */
export type HostOptions = {
  dir?: string | undefined;
  listen?: string | undefined;
  token?: string | undefined;
  vmm?: string | undefined;
  accelerator?: string | undefined;
  egress?: string | undefined;
  network?: string | undefined;
  disks?: string | undefined;
  jailer?: string | undefined;
  diskMibPerSecond?: string | undefined;
  diskOpsPerSecond?: string | undefined;
  netMbitPerSecond?: string | undefined;
  poolSize?: string | undefined;
  drainSeconds?: string | undefined;
  metricsToken?: string | undefined;
  credentials?: Credentials | undefined;
  readyTimeoutMs?: number | undefined;
  patienceMs?: number | undefined;
  guestDir?: string | undefined;
  store?: string | undefined;
  registries?: string | undefined;
};

/** What the code reads: complete and checked. */
export type HostConfig = {
  /** Data folder. */
  readonly dir: string;
  readonly hostname: string;
  readonly port: number;
  /** The secret that requests must carry. */
  readonly token: string;
  /** `undefined`: the probe decides, here and in the next two. */
  readonly vmm: "qemu" | "firecracker" | undefined;
  readonly network: "user-mode" | "netns-tap" | undefined;
  /** How disk layers are kept, where not as the VMM's driver usually does. */
  readonly disks: "reflink" | undefined;
  readonly accelerator: "kvm" | "tcg" | undefined;
  /** `open` and `none` overrule the floor under guests' networks. */
  readonly egress: "open" | "none" | undefined;
  /** Whether Firecracker runs without its jailer where that is installed. */
  readonly isUnjailed: boolean;
  /** What a guest may do to its disk and network (Firecracker). */
  readonly guest: {
    readonly diskMibPerSecond: number | undefined;
    readonly diskOpsPerSecond: number | undefined;
    readonly netMbitPerSecond: number | undefined;
  };
  /** Machines kept ready for each template in use. */
  readonly poolSize: number;
  /** How long a stop may go on to begin pauses; what is left then runs on and is adopted. */
  readonly drainSeconds: number;
  /** Opens `/metrics` to a scraper; without one only the host token does. */
  readonly metricsToken: string | undefined;
  /** With these, only the control plane can connect, by mutual TLS. */
  readonly credentials: Credentials | undefined;
  /** How long a guest may take from restore or boot until its agent answers. */
  readonly readyTimeoutMs: number;
  /** How long a create waits for the first start of a template's program, which may take minutes, before it says so. */
  readonly patienceMs: number;
  /** The folder that `images/guest.sh` makes: what an imported image is given. */
  readonly guestDir: string;
  /** The object store: a folder, or `s3://BUCKET/PREFIX`. */
  readonly store: string;
  /** Registries (`NAME[:PORT]`) that may be inside this machine's own networks; others must be public. */
  readonly registries: readonly string[];
};

/** The data folder when none is named: the system's for root, the user's own otherwise. */
export function defaultDir(env: NodeJS.ProcessEnv = process.env): string {
  if (process.getuid?.() === 0) return "/var/lib/wrenn";
  return `${env.XDG_DATA_HOME ?? `${env.HOME}/.local/share`}/wrenn`;
}

/** The one door from options to configuration. Throws `invalid_request` naming the option that is wrong. */
export function compile(options: HostOptions): HostConfig {
  const [, hostname, port] = /^(.*):(\d{1,5})$/.exec(options.listen ?? "127.0.0.1:50051") ?? [];
  if (hostname === undefined || Number(port) > 65_535)
    throw bad(`the listen address "${options.listen}" is not HOST:PORT`);
  const token = options.token ?? "";
  if (token.length < 16)
    throw new WrennError("invalid_request", "the host token is missing or shorter than 16 characters", {
      remedy:
        "Set WRENN_HOST_TOKEN to the secret that the control plane uses (`openssl rand -hex 32` makes one), or join a fleet with --register.",
    });
  const vmm = oneOf("VMM", options.vmm, ["qemu", "firecracker"]);
  const net = oneOf("network", options.network, ["user-mode", "netns-tap"]);
  const disks = oneOf("disk driver", options.disks, ["reflink"]);
  const isUnjailed = oneOf("jailer setting", options.jailer, ["on", "off"]) === "off";
  const guest = {
    diskMibPerSecond: rate("disk limit", options.diskMibPerSecond),
    diskOpsPerSecond: rate("disk limit", options.diskOpsPerSecond),
    netMbitPerSecond: rate("network limit", options.netMbitPerSecond),
  };
  const accelerator = oneOf("accelerator", options.accelerator, ["kvm", "tcg"]);
  const drainSeconds = rate("time to drain", options.drainSeconds) ?? defaultDrainSeconds;
  const egress = oneOf("egress", options.egress, ["open", "none"]);
  const poolSize = Number(options.poolSize ?? defaultPoolSize);
  if (!Number.isInteger(poolSize) || poolSize < 0 || poolSize > 1000)
    throw bad(`the pool size "${options.poolSize}" is not a whole number from 0 to 1000`);
  const dir = options.dir ?? defaultDir();
  // An emulated guest on a busy host needs minutes for what a quiet one does in seconds.
  const readyTimeoutMs = options.readyTimeoutMs ?? 120_000;
  const patienceMs = options.patienceMs ?? 45_000; // published clients wait a minute for a create
  const { metricsToken } = options;
  const { credentials, guestDir = usualGuestDir() } = options;
  const served = { hostname: hostname || "0.0.0.0", port: Number(port), token, metricsToken, credentials };
  const drivers = { vmm, network: net, disks, accelerator, egress, isUnjailed, guest };
  const store = options.store ?? `${dir}/store`;
  const registries = (options.registries ?? "").split(",").flatMap((name) => name.trim() || []);
  return Object.freeze({
    dir,
    ...served,
    ...drivers,
    poolSize,
    drainSeconds,
    readyTimeoutMs,
    patienceMs,
    guestDir,
    store,
    registries,
  });
}

/** Beside the program, else in the sources that it runs from. */
const usualGuestDir = (): string =>
  import.meta.path.startsWith("/$bunfs/")
    ? join(dirname(process.execPath), "guest")
    : join(import.meta.dir, "../../../builds/guest");

/** Sizes of this machine. */
export const machineSize = () => ({ cpuCores: cpus().length, memoryMib: Math.floor(totalmem() / 2 ** 20) });

function oneOf<T extends string>(what: string, given: string | undefined, known: readonly T[]): T | undefined {
  const found = known.find((one) => one === given);
  if (given !== undefined && !found) throw bad(`the ${what} "${given}" is unknown: use ${known.join(" or ")}`);
  return found;
}

function rate(what: string, given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const value = Number(given);
  if (!Number.isInteger(value) || value < 1) throw bad(`the ${what} "${given}" is not a whole number of 1 or more`);
  return value;
}

const bad = (message: string) => new WrennError("invalid_request", message);
