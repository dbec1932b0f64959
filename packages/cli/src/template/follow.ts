import type { BuildInfo, Wrenn } from "wrenn";
import { bytes, Failure, paint, print, printJson } from "../output.ts";
import { BuildProgress, took } from "./progress.ts";
import { interrupted } from "./upload.ts";

/** Follows a build to its end and says how it went. Ctrl-C cancels it. */
export async function finish(
  client: Wrenn,
  started: BuildInfo,
  flags: { quiet?: boolean; json?: boolean },
): Promise<void> {
  let isCancelled = false;
  const leave = () => process.exit(interrupted);
  const cancel = () => {
    isCancelled = true;
    process.stderr.write("\ncancelling the build; Ctrl-C again does not wait for that\n");
    process.once("SIGINT", leave);
    client.builds.cancel(started.id).catch(() => {}); // it is over, which the log says
  };
  process.once("SIGINT", cancel);
  try {
    const done = await follow(client, started.id, flags.quiet === true);
    if (flags.json) printJson(done);
    if (done.status !== "success") throw failed(done, isCancelled);
    if (flags.json) return;
    const names = done.tags.filter((tag) => tag !== "default").map((tag) => `${done.template}:${tag}`);
    print(`${paint("green", "✓")} ${[done.template, ...names].join(", ")}  ${bytes(done.sizeBytes)}, ${took(done)}`);
    print(paint("dim", `next: wrenn create -t ${done.template}`));
  } finally {
    for (const listener of [cancel, leave]) process.removeListener("SIGINT", listener);
  }
}

/** Prints the log of a build until it is over. */
export async function follow(client: Wrenn, id: string, isQuiet: boolean): Promise<BuildInfo> {
  using progress = new BuildProgress(isQuiet);
  const lines = client.builds.follow(id, { requestTimeoutMs: 0 });
  for (;;) {
    const next = await lines.next();
    if (next.done) return next.value;
    if (progress.isUncounted && (next.value.stream === "step" || next.value.stream === "cached"))
      progress.expect((await client.builds.get(id)).totalSteps);
    progress.line(next.value);
  }
}

const failed = ({ status, error, id }: BuildInfo, isOurs: boolean): Failure =>
  status === "cancelled"
    ? new Failure(`the build ${id} was cancelled`, undefined, isOurs ? interrupted : 1)
    : new Failure(error?.message ?? `the build ${id} failed`, error?.remedy);
