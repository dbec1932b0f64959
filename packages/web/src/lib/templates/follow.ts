import { type BuildInfo, type BuildLogLine, type Wrenn, WrennError } from "wrenn";
import { session } from "#lib/api/session.svelte.ts";

/** A server that restarts is asked again; the log goes on behind the last line that was read. */
const againMs = 1_000;

/** What is told of a build that is followed. */
export type BuildEvents = {
  build(build: BuildInfo): void;
  line?(line: BuildLogLine): void;
  /** Whether the server is away. */
  lost?(away: boolean): void;
};

/** Follows a build until it is over or the signal ends it. Throws what the server refuses. */
export async function followBuild(
  id: string,
  signal: AbortSignal,
  told: BuildEvents,
  client: Wrenn = session.client,
): Promise<void> {
  let known = 0;
  while (!signal.aborted) {
    try {
      let build = await client.builds.get(id);
      told.build(build);
      const log = client.builds.follow(id, { signal });
      let count = 0;
      for (let next = await log.next(); ; next = await log.next()) {
        told.lost?.(false);
        if (next.done) return told.build(next.value);
        const line = next.value;
        if (++count > known) {
          known = count;
          told.line?.(line);
        }
        if (line.stream === "step" || line.stream === "done") {
          build = { ...build, currentStep: Math.max(build.currentStep, line.step), status: "running" };
          told.build(build);
        }
      }
    } catch (thrown) {
      if (signal.aborted) return;
      if (thrown instanceof WrennError && thrown.status < 500) throw thrown;
      told.lost?.(true);
      await new Promise((resolve) => setTimeout(resolve, againMs));
    }
  }
}
