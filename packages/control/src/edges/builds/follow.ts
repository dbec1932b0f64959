import type { rest } from "@wrenn/contract";

/** How often the log of a build under way is read for who follows it. */
const followMs = 200;

/** Reads a build and the lines of its log behind one of them. */
export type ReadLog = (after: number) => Promise<{ build: rest.Build; lines: rest.BuildLogLine[] }>;
/** From which line on, how long a silence may be, and until when. */
export type Course = { after: number; keepAliveMs: number; signal: AbortSignal };

/** Lines of a log as they come, then the build; something now and then in a long silence. */
export async function* followBuild(
  read: ReadLog,
  { after, keepAliveMs, signal }: Course,
): AsyncGenerator<rest.BuildFrame, void> {
  let [from, heard] = [after, performance.now()];
  while (!signal.aborted) {
    const { build, lines } = await read(from);
    for (const line of lines) yield { type: "log", ...line };
    from = lines.at(-1)?.seq ?? from;
    if (lines.length > 0) heard = performance.now();
    else if (build.completed_at !== undefined) return yield { type: "end", build };
    else if (performance.now() - heard > keepAliveMs) {
      heard = performance.now();
      yield { type: "ping" };
    } else await Bun.sleep(followMs);
  }
}
