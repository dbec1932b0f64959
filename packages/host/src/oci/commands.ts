import { statfs } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";

/** What a program said last, in an error. */
const saidLength = 600;
/** How often the disk is looked at while strangers' bytes are unpacked. */
const watchMs = 250;

/** How a program is run. */
export type RunOptions = {
  /** Told when it fails. */
  what: string;
  remedy: string;
  env?: Record<string, string>;
  /** What it reads; nothing when absent. The program ends when this throws. */
  input?: AsyncIterable<Uint8Array>;
  /** Ends the program when the disk at `path` has lost this much since `watched`. */
  budget?: DiskBudget;
};

/** Runs a program and answers what it printed. Throws `invalid_request` with what it said when it fails. */
export async function run(
  command: readonly string[],
  { what, remedy, env, budget, input }: RunOptions,
): Promise<string> {
  const { PATH = "", HOME = "/root" } = process.env;
  const child = Bun.spawn([...command], {
    env: { PATH: `${PATH}:/usr/sbin:/sbin`, HOME, LC_ALL: "C", ...env },
    stdin: input ? "pipe" : "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  using watched = budget?.watch(() => child.kill("SIGKILL"));
  const fed = input && feed(child.stdin as Bun.FileSink, input).catch(() => child.kill("SIGKILL"));
  const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), fed]);
  if ((await child.exited) === 0) return out;
  if (watched?.isSpent) throw budget!.spent();
  throw new WrennError("invalid_request", `${what}: ${said.trim().slice(-saidLength) || "it was ended"}`, { remedy });
}

async function feed(sink: Bun.FileSink, input: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of input) {
    sink.write(chunk);
    await sink.flush();
  }
  await sink.end();
}

/** Throws `agent_error` with the remedy when a program is not there. */
export function needProgram(name: string, packageName = name): void {
  if (Bun.which(name, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` })) return;
  throw new WrennError("agent_error", `the program ${name} is missing on the host`, {
    remedy: `Install it there: sudo apt-get install -y ${packageName} (or run make setup).`,
  });
}

/** Files that one image may have: ten times those of a full desktop system. An image of nothing but names fills a disk too. */
const maxFiles = 3_000_000;

/** How much of a disk one import may take: an image is a stranger's, and may unpack to anything. */
export class DiskBudget {
  private constructor(
    readonly path: string,
    readonly mib: number,
    readonly freeAtStart: Free,
  ) {}

  /** A budget of `mib` from what is free at `path` now. */
  static async of(path: string, mib: number): Promise<DiskBudget> {
    return new DiskBudget(path, mib, await freeOf(path));
  }

  /** Looks until it is disposed of; calls `end` once when the budget is spent. */
  watch(end: () => void): Disposable & { readonly isSpent: boolean } {
    let isSpent = false;
    const timer = setInterval(async () => {
      const free = await freeOf(this.path).catch(() => this.freeAtStart);
      const [usedMib, files] = [this.freeAtStart.mib - free.mib, this.freeAtStart.files - free.files];
      if (isSpent || (usedMib < this.mib && files < maxFiles)) return;
      isSpent = true;
      end();
    }, watchMs);
    return {
      get isSpent() {
        return isSpent;
      },
      [Symbol.dispose]: () => clearInterval(timer),
    };
  }

  /** What is thrown then. */
  spent(): WrennError {
    return new WrennError("too_large", `the image unpacks to more than ${this.mib} MiB or ${maxFiles} files`, {
      remedy: "Use a smaller image.",
    });
  }
}

type Free = { readonly mib: number; readonly files: number };

async function freeOf(path: string): Promise<Free> {
  const { bavail, bsize, ffree: files } = await statfs(path);
  return { mib: Math.floor((bavail * bsize) / 2 ** 20), files };
}
