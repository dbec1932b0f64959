import { access, constants, statfs } from "node:fs/promises";
import { Command } from "commander";
import { readProfile, Wrenn } from "wrenn";
import { bytes, type Failure, paint, print, printJson } from "../output.ts";
import { findImages, folderPath } from "../up/folder.ts";
import { findPostgres } from "../up/postgres.ts";
import { programCommand } from "../up/programs.ts";

/** One question about this machine and its answer. */
export type Probe = { name: string; ok: boolean; detail: string; remedy?: string };

/** What `wrenn-agent probe --json` prints. */
type HostReport = { probes: Probe[]; vmm?: string; accelerator?: string; disk?: string; network?: string };

/** `wrenn doctor`. */
export const doctorCommand = (): Command =>
  new Command("doctor")
    .description("look at this machine: what sandboxes will run on, and what is missing")
    .option("--dir <path>", "data folder; default WRENN_DIR, else /var/lib/wrenn or ~/.local/share/wrenn")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn doctor")
    .action(async ({ dir: flag, json }: { dir?: string; json?: boolean }) => {
      const dir = folderPath(flag);
      const [host, ...own] = await Promise.all([hostReport(dir), ...ownProbes(dir)]);
      const { probes, ...drivers } = host;
      const asked = new Set(probes.map(({ name }) => name));
      const all = [
        ...probes,
        ...own.filter(({ name }) => !asked.has(name) && !(name === "images" && asked.has("kernel"))),
      ];
      if (json) printJson({ probes: all, ...drivers });
      else show(all, drivers);
      if (all.some(isFault)) process.exitCode = 1;
    });

/** Without KVM sandboxes are emulated, and without a server none was started yet: slower or later, not broken. */
const isFault = ({ name, ok, remedy }: Probe): boolean => !ok && remedy !== undefined && name !== "kvm";

const ownProbes = (dir: string): Promise<Probe>[] => [
  postgresProbe(),
  folderProbe(dir),
  spaceProbe(dir),
  imagesProbe(dir),
  serverProbe(),
];

/** The host agent knows its drivers; this program only asks it. A VM is started by its probe, which takes seconds. */
async function hostReport(dir: string): Promise<HostReport> {
  try {
    const command = [...(await programCommand("wrenn-agent")), "probe", "--json"];
    const child = Bun.spawn(command, {
      env: { ...process.env, WRENN_DIR: dir },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [said, complained] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    await child.exited;
    return (
      parseReport(said) ?? {
        probes: [brokenProbe(complained.trim().split("\n").at(-1) || `exit code ${child.exitCode}`)],
      }
    );
  } catch (thrown) {
    const { message, remedy } = thrown as Failure;
    return { probes: [{ name: "host agent", ok: false, detail: message, ...(remedy ? { remedy } : {}) }] };
  }
}

const brokenProbe = (detail: string): Probe => ({
  name: "host agent",
  ok: false,
  detail: `its probe failed: ${detail}`,
  remedy: "Build it again with `make build`; if that does not help, report this.",
});

function parseReport(text: string): HostReport | undefined {
  try {
    const report = JSON.parse(text) as HostReport;
    return Array.isArray(report.probes) ? report : undefined;
  } catch {
    return undefined;
  }
}

async function postgresProbe(): Promise<Probe> {
  const name = "PostgreSQL";
  if (process.env.DATABASE_URL) return { name, ok: true, detail: "given by DATABASE_URL" };
  const found = await findPostgres();
  if (found) return { name, ok: true, detail: `programs in ${found}` };
  return {
    name,
    ok: false,
    detail: "no programs found",
    remedy: "Run `make build`, or set WRENN_POSTGRES_DIR or DATABASE_URL.",
  };
}

/** The nearest folder above that is there already. */
async function existing(path: string): Promise<string> {
  const there = await access(path).then(
    () => true,
    () => false,
  );
  return there || path === "/" ? path : existing(path.slice(0, path.lastIndexOf("/")) || "/");
}

async function folderProbe(dir: string): Promise<Probe> {
  const name = "data folder";
  const at = await existing(dir);
  const writable = await access(at, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (writable) return { name, ok: true, detail: at === dir ? dir : `${dir}, made on the first start` };
  return {
    name,
    ok: false,
    detail: `${at} is not writable`,
    remedy: "Name another folder with WRENN_DIR, or run as a user who may write there.",
  };
}

/** A template's memory, its disk and a few paused sandboxes. */
const wantedBytes = 4 * 1024 ** 3;

async function spaceProbe(dir: string): Promise<Probe> {
  const { bavail, bsize } = await statfs(await existing(dir));
  const free = bavail * bsize;
  const detail = `${bytes(free)} free`;
  if (free >= wantedBytes) return { name: "disk space", ok: true, detail };
  return {
    name: "disk space",
    ok: false,
    detail,
    remedy: `Free at least ${bytes(wantedBytes)}, or name a folder on a larger disk with WRENN_DIR.`,
  };
}

async function imagesProbe(dir: string): Promise<Probe> {
  const { images, kernels } = await findImages(dir);
  const name = "images";
  const remedy = `Build them: WRENN_DIR=${dir} make images`;
  if (kernels.length === 0) return { name, ok: false, detail: `no kernel in ${dir}/kernels`, remedy };
  if (images.length === 0) return { name, ok: false, detail: `no image in ${dir}/images`, remedy };
  return { name, ok: true, detail: `${images.join(", ")}; ${kernels.join(", ")}` };
}

/** A server that does not run is a fact, not a fault: `wrenn up` may not have been called. */
async function serverProbe(): Promise<Probe> {
  const profile = await readProfile();
  const client = new Wrenn({ requestTimeoutMs: 3_000 });
  try {
    const { version } = await client.health();
    return { name: "server", ok: true, detail: `version ${version} at ${(await client.endpoint()).baseUrl}` };
  } catch (thrown) {
    const detail = (thrown as Error).message;
    return {
      name: "server",
      ok: false,
      detail: profile || process.env.WRENN_BASE_URL ? detail : "not started yet: wrenn up",
    };
  }
}

function show(probes: readonly Probe[], drivers: Omit<HostReport, "probes">): void {
  const width = Math.max(...probes.map(({ name }) => name.length));
  for (const probe of probes) {
    const { name, ok, detail, remedy } = probe;
    const mark = ok ? paint("green", "✓") : isFault(probe) ? paint("red", "✗") : paint("yellow", "–");
    print(`${mark} ${name.padEnd(width)}  ${detail}`);
    if (!ok && remedy) print(`  ${" ".repeat(width)}  ${paint("cyan", "remedy:")} ${remedy}`);
  }
  const chosen = Object.entries(drivers).filter(([, value]) => value !== undefined);
  if (chosen.length === 0) return;
  print();
  for (const [axis, driver] of chosen) print(`${axis.padEnd(width + 2)}  ${paint("bold", String(driver))}`);
}
