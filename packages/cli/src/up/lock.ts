import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../output.ts";
import { writeWhole } from "./folder.ts";
import { type Identity, identityOf, isRunning, stop } from "./processes.ts";

/** A child as the lock remembers it, with the signal that ends it gently. */
export type LockedChild = Identity & { name: string; stopSignal: NodeJS.Signals };

type Content = Identity & { children: LockedChild[] };

/** How long what a killed `wrenn up` left running has to end: the host agent may be pausing sandboxes. */
const leftoverPatienceMs = 60_000;

/** Holds a data folder for one `wrenn up`, and remembers its children for the next one should this one be killed. */
export class Lock implements AsyncDisposable {
  readonly #path: string;
  readonly #content: Content;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, content: Content) {
    this.#path = path;
    this.#content = content;
  }

  /** Takes the lock; stops what a killed predecessor left running. Throws when a predecessor still runs. */
  static async take(dir: string, onLeftover: (name: string) => void = () => {}): Promise<Lock> {
    const path = join(dir, "up.lock");
    const content: Content = { ...identityOf(process.pid)!, children: [] };
    const mine = `${path}.${process.pid}`;
    await writeFile(mine, JSON.stringify(content), { mode: 0o600 });
    try {
      // A link is made whole or not at all, so two starts at once cannot both hold the lock.
      while (!(await linked(mine, path))) await recover(path, onLeftover);
    } finally {
      await rm(mine, { force: true });
    }
    return new Lock(path, content);
  }

  /** Remembers a child in place of an earlier one of the same name. */
  remember(child: LockedChild): Promise<void> {
    this.#content.children = [...this.#content.children.filter((one) => one.name !== child.name), child];
    this.#writing = this.#writing.then(() => writeWhole(this.#path, JSON.stringify(this.#content), 0o600));
    return this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    await rm(this.#path, { force: true });
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw thrown;
  }
}

async function recover(path: string, onLeftover: (name: string) => void): Promise<void> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return;
  const held = parse(text);
  if (held && isRunning(held))
    throw new Failure(
      `wrenn up already runs on this data folder, as process ${held.pid}`,
      `Use it, stop it with \`kill ${held.pid}\`, or start another with --dir and --listen.`,
    );
  for (const child of (held?.children ?? []).filter(isRunning).reverse()) {
    onLeftover(child.name);
    await stop(child, child.stopSignal, leftoverPatienceMs);
  }
  // Only one of two starts at once finds the file to rename; the other looks again.
  await rename(path, `${path}.stale`).catch(() => {});
  await rm(`${path}.stale`, { force: true });
}

function parse(text: string): Content | undefined {
  try {
    return JSON.parse(text) as Content;
  } catch {
    return undefined; // the machine stopped in the middle of the write
  }
}
