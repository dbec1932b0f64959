import { WrennError } from "@wrenn/contract";
import type { GuestAgent, Launched } from "./guest-agent.ts";
import type { Image } from "./images.ts";

/** A server that loads large libraries in an emulated guest on a busy machine was seen to need eight minutes. */
const readyTimeoutMs = 20 * 60_000;
/** Between two looks; in an emulated guest each look takes the processor from what it waits for. */
const lookMs = 500;

/**
 * Starts what an image has running in every sandbox, and waits until its check succeeds: the memory that is frozen then
 * holds it at work. Throws `timeout` when it does not become ready, `agent_error` when it ends instead.
 */
export async function startServer(agent: GuestAgent, image: Image): Promise<void> {
  const { start, defaultUser: user, defaultWorkdir: cwd, env } = image;
  if (!start) return;
  const launched = agent.launch(["/bin/sh", "-c", start], { user, cwd, env });
  const deadline = performance.now() + readyTimeoutMs;
  try {
    while (!(await isReady(agent, image))) {
      // One that put itself into the background has ended well.
      if (launched.ended) throw ended(image, launched);
      if (performance.now() > deadline) throw late(image);
      await Bun.sleep(lookMs);
    }
  } finally {
    launched.leave();
  }
}

const ended = ({ name }: Image, { said, ended: status }: Launched) =>
  new WrennError("agent_error", `the program of the template ${name} ended with status ${status}: ${said.trim()}`, {
    remedy: "Correct what the image starts; see what it printed.",
  });

const late = ({ name, ready }: Image) =>
  new WrennError("timeout", `the program of the template ${name} did not become ready: ${ready}`, {
    remedy: "Start a sandbox of it with more memory, and try the check by hand.",
  });

/** Runs an image's check once: it is also what makes a waiting machine's server warm. */
export async function isReady(
  agent: GuestAgent,
  { ready, defaultUser: user }: Image,
  token?: string,
): Promise<boolean> {
  return ready === undefined || (await agent.run("/bin/sh", ["-c", ready], { user, token })) === 0;
}
