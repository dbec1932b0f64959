import { existsSync } from "node:fs";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tscKhz } from "../packages/host/src/probe.ts";
import { installed } from "../test/support/data-folder.ts";
import { borrowed, cache, hostImage, packTree, toolDisk } from "./disks.ts";

/** An idle machine needs five seconds, one that does other things a minute; beyond two the host hangs. */
const bootTimeoutMs = 180_000;

/** The host says something every second; silence for this long means that it hangs (about one start in sixty ends early). */
const silenceMs = 90_000;

const sizes = { cpus: 2, memoryMib: 4096 };

/** The lab's host did not start, ended or fell silent: no result of the command that ran in it. */
export class HostLost extends Error {}

/** Why this machine cannot run the lab; `undefined` when it can. */
export function missing(): string | undefined {
  for (const [program, name] of Object.entries({ "qemu-system-x86_64": "qemu-system-x86", mmdebstrap: "mmdebstrap" }))
    if (!Bun.which(program)) return `${program} is not installed (apt-get install ${name})`;
  const models = Bun.spawnSync(["qemu-system-x86_64", "-cpu", "help"]).stdout.toString();
  if (!/\bsvm\b/.test(models)) return "this QEMU does not emulate AMD's virtualisation (SVM)";
  if (process.arch !== "x64") return "the lab's host is an x86-64 machine";
  if (!existsSync(`${installed}/images/minimal/rootfs.ext4`)) return `there is no image in ${installed} (make images)`;
  return undefined;
}

/** Which cases will be skipped for want of a program, one line each. */
export function notes(): string[] {
  return Object.entries(borrowed)
    .filter(([, path]) => !existsSync(path))
    .map(([name, path]) => `${path} is missing: the cases that need ${name} are skipped (${name.toUpperCase()}_BIN)`);
}

/** A running host of the lab. Disposing ends it; nothing of what was done in it stays. */
export class LabHost implements AsyncDisposable {
  private constructor(
    readonly child: Bun.Subprocess,
    readonly dir: string,
    readonly address: string,
    readonly bootMs: number,
  ) {}

  /** Starts a host with the working tree as it is now. Throws `HostLost` when it does not come up. */
  static async start({ words = "" }: HostOptions = {}): Promise<LabHost> {
    const image = await hostImage();
    const tools = await toolDisk(installed);
    const dir = await mkdtemp(`${cache}/run.`);
    await packTree(`${dir}/tree.tar`);
    const port = freePort();
    const started = performance.now();
    // It ends with this process, however that ends.
    const tied = ["setpriv", "--pdeathsig", "KILL", "--"];
    const own = { dir, tools, port, words: `${words} ${await clockWords()}` };
    const child = Bun.spawn([...tied, "qemu-system-x86_64", ...arguments_(image, own)], {
      stdio: ["ignore", "ignore", Bun.file(`${dir}/qemu.log`)],
      env: { ...process.env, TMPDIR: dir }, // where QEMU puts what the host writes to its disks
    });
    const host = new LabHost(child, dir, `http://127.0.0.1:${port}`, 0);
    for (const deadline = started + bootTimeoutMs; performance.now() < deadline; await Bun.sleep(50)) {
      if (child.exitCode !== null) break;
      const answer = await fetch(`${host.address}/health`, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
      if (answer?.ok) return new LabHost(child, dir, host.address, performance.now() - started);
    }
    const why = await host.lastWords();
    await host[Symbol.asyncDispose]();
    throw new HostLost(`the lab's host did not come up: ${why}`);
  }

  /** Runs a command in the working tree inside; its output goes to `sink`. Gives its exit code. Throws `HostLost`. */
  async run(
    argv: readonly string[],
    { env = {}, timeoutSec = 900, sink = toStdout }: RunOptions = {},
  ): Promise<number> {
    const body = JSON.stringify({ argv, env, timeoutSec });
    const quiet = new AbortController();
    let silence = setTimeout(() => quiet.abort(), silenceMs);
    try {
      const answer = await fetch(`${this.address}/run`, { method: "POST", body, signal: quiet.signal });
      for await (const line of lines(answer.body!)) {
        clearTimeout(silence);
        silence = setTimeout(() => quiet.abort(), silenceMs);
        const event = JSON.parse(line) as { out?: string; exit?: number };
        if (event.out) sink(Buffer.from(event.out, "base64"));
        if (event.exit !== undefined) return event.exit;
      }
    } catch {
      // told below, with what the host said last
    } finally {
      clearTimeout(silence);
    }
    const how = this.child.exitCode === null ? "fell silent" : `ended (QEMU: ${this.child.exitCode})`;
    throw new HostLost(`the lab's host ${how}: ${await this.lastWords()}`);
  }

  /** Brings the content of a folder inside into the folder `to` of this machine. */
  async fetchFiles(path: string, to: string): Promise<void> {
    const answer = await fetch(`${this.address}/files?path=${encodeURIComponent(path)}`);
    const child = Bun.spawn(["tar", "-C", to, "-xf", "-"], { stdin: answer.body!, stdout: "ignore" });
    if ((await child.exited) !== 0) throw new Error(`the files of ${path} did not arrive whole`);
  }

  async lastWords(): Promise<string> {
    const text = async (name: string) =>
      (
        await Bun.file(`${this.dir}/${name}`)
          .text()
          .catch(() => "")
      )
        .trim()
        .split("\n")
        .slice(-6)
        .join("\n  ");
    return `\n  ${await text("qemu.log")}\n  ${await text("console.log")}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** `words` are added to the kernel's command line (`lab/inside/init` reads them). */
export type HostOptions = { readonly words?: string };

export type RunOptions = {
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutSec?: number;
  readonly sink?: (bytes: Uint8Array) => void;
};

/** A run boots some twenty nested guests, any of which may freeze the host: about every third run loses one. */
const retries = 3;

/**
 * Runs `use` on a host, again on a new one when that is lost: emulated nested virtualisation is not perfectly stable.
 * A retry is printed, counted and never hidden; a command that fails is no reason for one.
 */
export async function withHost<T>(use: (host: LabHost) => Promise<T>, options: HostOptions = {}): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      await using host = await LabHost.start(options);
      console.error(`lab: the host is up after ${(host.bootMs / 1000).toFixed(1)} s`);
      return await use(host);
    } catch (thrown) {
      if (!(thrown instanceof HostLost) || attempt === retries) throw thrown;
      console.error(`lab: ${thrown.message}\nlab: retry ${attempt + 1} of ${retries}`);
      await appendFile(`${cache}/retries.log`, `${new Date().toISOString()} ${thrown.message}\n`);
    }
  }
}

type Own = { dir: string; tools: string; port: number; words: string };
type Image = { disk: string; kernel: string; initrd: string };

/** QEMU's arguments: a PC with emulated SVM, so that KVM works inside; nothing it writes is kept. */
function arguments_({ disk, kernel, initrd }: Image, own: Own): string[] {
  const drive = (file: string, how: string) => ["-drive", `file=${file},if=virtio,format=raw,${how}`];
  // Microcode and CPU mitigations make an emulated host slower and protect nobody in it.
  const words = "root=/dev/vda rw init=/sbin/lab-first console=ttyS0 quiet loglevel=4 tsc=reliable mitigations=off";
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,+svm"],
    ...["-smp", `${sizes.cpus}`, "-m", `${sizes.memoryMib}`],
    ...["-kernel", kernel, "-initrd", initrd, "-append", `${words} ${own.words} ${process.env.LAB_KERNEL_WORDS ?? ""}`],
    ...drive(disk, "snapshot=on,cache=unsafe"),
    ...drive(own.tools, "snapshot=on,cache=unsafe"),
    ...drive(`${own.dir}/tree.tar`, "read-only=on"),
    // The host inside reaches nothing; one port of this machine's loopback reaches it.
    ...["-netdev", `user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:${own.port}-10.0.2.15:5000`],
    ...["-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci"],
    ...["-qmp", `unix:${own.dir}/qmp.sock,server=on,wait=off`],
    ...["-serial", `file:${own.dir}/console.log`],
  ];
}

/**
 * The host's kernel is told the rate of its counter, which is this machine's, and takes its timer on trust: on a busy
 * machine it measures a rate several times too low, so that every time limit inside is over early, or gives up the timer.
 */
async function clockWords(): Promise<string> {
  const khz = await tscKhz();
  return khz === undefined ? "no_timer_check" : `no_timer_check tsc_early_khz=${khz}`;
}

function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

const toStdout = (bytes: Uint8Array): void => void process.stdout.write(bytes);
