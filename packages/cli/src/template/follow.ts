import type { BuildInfo, Wrenn } from "wrenn";
import { bytes, Failure, paint, print, printJson } from "../output.ts";
import { BuildProgress, took } from "./progress.ts";

/** Follows a build to its end and says how it went. Ctrl-C cancels it. */
export async function finish(
  client: Wrenn,
  started: BuildInfo,
  flags: { quiet?: boolean; json?: boolean },
): Promise<void> {
  const cancel = () => {
    process.stderr.write("cancelling; press Ctrl-C again to leave it running\n");
    process.once("SIGINT", () => process.exit(130));
    client.builds.cancel(started.id).catch(() => {});
  };
  process.once("SIGINT", cancel);
  try {
    const done = await follow(client, started.id, flags.quiet === true);
    if (flags.json) printJson(done);
    if (done.status !== "success") throw failed(done);
    if (flags.json) return;
    const names = done.tags.filter((tag) => tag !== "default").map((tag) => `${done.template}:${tag}`);
    print(`${paint("green", "✓")} ${[done.template, ...names].join(", ")}  ${bytes(done.sizeBytes)}, ${took(done)}`);
    print(paint("dim", `next: wrenn create -t ${done.template}`));
  } finally {
    process.removeListener("SIGINT", cancel);
  }
}

/** Prints the log of a build until it is over. */
export async function follow(client: Wrenn, id: string, isQuiet: boolean): Promise<BuildInfo> {
  const progress = new BuildProgress(isQuiet);
  const lines = client.builds.follow(id, { requestTimeoutMs: 0 });
  for (;;) {
    const next = await lines.next();
    if (next.done) return next.value;
    if (next.value.stream === "step" || next.value.stream === "cached")
      progress.expect((await client.builds.get(id)).totalSteps);
    progress.line(next.value);
  }
}

const failed = ({ status, error, id }: BuildInfo): Failure =>
  status === "cancelled"
    ? new Failure(`the build ${id} was cancelled`)
    : new Failure(error?.message ?? `the build ${id} failed`, error?.remedy);
