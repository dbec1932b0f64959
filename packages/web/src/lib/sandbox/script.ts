import { type Sandbox, WrennError } from "wrenn";

/** How a command that tells something again and again is followed. */
export type Script = {
  /** For `/bin/sh`. It ends each look with a line of its own, `--`. */
  text: string;
  tag: string;
  /** Each look, without that line. */
  show(look: string): unknown;
};

/**
 * A page that is closed says no goodbye, and nobody else would end what it started: the guest does, after this long, and
 * a page that is still there starts it again.
 */
const lifeMs = 60_000;

/** Follows a script in a sandbox until the signal ends it. */
export async function followScript(sandbox: Sandbox, signal: AbortSignal, { text, tag, show }: Script): Promise<void> {
  while (!signal.aborted) {
    let heard = "";
    const onStdout = (more: string) => {
      const looks = (heard + more).split("--\n");
      heard = looks.pop()!;
      if (looks.length > 0) show(looks.at(-1)!);
    };
    const options = { timeoutMs: lifeMs, collect: false, onStdout, signal, tag };
    await sandbox.commands.exec("/bin/sh", ["-c", text], options).catch((thrown) => {
      if (!signal.aborted && !(thrown instanceof WrennError && thrown.code === "timeout")) throw thrown;
    });
  }
}
