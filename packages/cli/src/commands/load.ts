import { Command, Option } from "commander";
import { type MetricPoint, type MetricsOptions, Sandbox, type SandboxInfo, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import type { Json } from "../options.ts";
import { age, bytes, paint, print, printJson, table } from "../output.ts";

const ranges = ["5m", "10m", "1h", "2h", "6h", "12h", "24h"] as const;
/** As often as the eye follows; hosts measure every half second. */
const refreshMs = 2_000;

/** `wrenn stats`. */
export const statsCommand = (): Command =>
  new Command("stats")
    .description("show the load of a sandbox: now, on average and at its highest")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .addOption(new Option("--range <span>", "how far back").choices(ranges).default("10m"))
    .option("--json", "print every point as JSON")
    .addHelpText("after", "\nExamples:\n  wrenn stats cl-3k9\n  wrenn stats cl-3k9 --range 24h --json")
    .action(async (text: string, { range, json }: Json & Required<Pick<MetricsOptions, "range">>) => {
      const client = new Wrenn();
      const points = await Sandbox.metrics(await resolveId(client, text), { client, range });
      if (json) return printJson(points);
      if (points.length === 0) return print("nothing was measured in this time");
      print(
        table(
          ["", "NOW", "AVERAGE", "HIGHEST"],
          quantities.map((quantity) => summary(quantity, points)),
        ),
      );
    });

type Quantity = { title: string; of: (point: MetricPoint) => number | undefined; show: (value: number) => string };

const quantities: readonly Quantity[] = [
  { title: "processor", of: ({ cpuPercent }) => cpuPercent, show: percent },
  { title: "memory on the host", of: ({ memoryBytes }) => memoryBytes, show: bytes },
  { title: "memory in use inside", of: ({ guest }) => guest?.memoryUsedBytes, show: bytes },
  { title: "disk on the host", of: ({ diskBytes }) => diskBytes, show: bytes },
  { title: "disk in use inside", of: ({ guest }) => guest?.diskUsedBytes, show: bytes },
  { title: "received", of: ({ guest }) => guest?.receivedBytes, show: bytes },
  { title: "sent", of: ({ guest }) => guest?.sentBytes, show: bytes },
];

function summary({ title, of, show }: Quantity, points: readonly MetricPoint[]): string[] {
  const values = points.map(of).filter((value) => value !== undefined);
  if (values.length === 0) return [title, "-", "-", "-"];
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [title, show(values.at(-1)!), show(average), show(Math.max(...values))];
}

function percent(value: number): string {
  return `${value.toFixed(1)} %`;
}

/** `wrenn top`. */
export const topCommand = (): Command =>
  new Command("top")
    .description("follow the load of all running sandboxes, the busiest first, until Ctrl-C")
    .option("--once", "print it once; also what happens when the output is no terminal")
    .option("--json", "print it once, as JSON")
    .addHelpText("after", "\nExample:\n  wrenn top")
    .action(async ({ once, json }: Json & { once?: boolean }) => {
      const client = new Wrenn();
      if (json) return printJson(await measured(client));
      if (once || !process.stdout.isTTY) return print(screen(await measured(client)));
      for (;;) {
        const text = screen(await measured(client));
        process.stdout.write(`\u001b[H\u001b[2J${text}\n\n${paint("dim", "Ctrl-C ends")}\n`);
        await Bun.sleep(refreshMs);
      }
    });

type Load = SandboxInfo & { now: MetricPoint | undefined };

/** Running sandboxes with their latest point, the busiest first; one that ends meanwhile has none. */
async function measured(client: Wrenn): Promise<Load[]> {
  const running = (await Sandbox.list({ client })).filter(({ status }) => status === "running");
  const loads = await Promise.all(
    running.map(async (sandbox) => {
      const points = await Sandbox.metrics(sandbox.id, { client, range: "5m" }).catch(() => []);
      return { ...sandbox, now: points.at(-1) };
    }),
  );
  return loads.toSorted((a, b) => (b.now?.cpuPercent ?? -1) - (a.now?.cpuPercent ?? -1));
}

function screen(loads: readonly Load[]): string {
  const rows = loads.map(({ id, template, createdAt, now }) => [
    id,
    template,
    now ? percent(now.cpuPercent) : "-",
    now?.guest ? bytes(now.guest.memoryUsedBytes) : "-",
    now ? bytes(now.memoryBytes) : "-",
    now ? bytes(now.diskBytes) : "-",
    age(createdAt),
  ]);
  return table(["ID", "TEMPLATE", "CPU", "USED", "ON HOST", "DISK", "AGE"], rows);
}
