import { type ForkOptions, Sandbox, type SandboxInfo } from "wrenn";
import { live } from "#lib/api/live.svelte.ts";
import { session } from "#lib/api/session.svelte.ts";
import { ask } from "#lib/ui/ask.svelte.ts";
import { confirm } from "#lib/ui/confirm.svelte.ts";
import { bad, good } from "#lib/ui/toasts.svelte.ts";

/** Does something and says how it went; false when it failed. */
async function told(done: string, act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    good(done);
    return true;
  } catch (thrown) {
    bad(thrown);
    return false;
  }
}

const client = () => ({ client: session.client });

/** Freezes memory and disk. */
export const pause = (id: string) => told(`${live.title(id)} is paused.`, () => Sandbox.pause(id, client()));

/** Continues where the pause stopped. */
export const resume = (id: string) => told(`${live.title(id)} runs again.`, () => Sandbox.resume(id, client()));

/** Removes a sandbox, after asking. */
export async function destroy(id: string): Promise<boolean> {
  const text = "Its memory, disk and processes are gone for good. Its snapshots stay.";
  if (!(await confirm({ title: `Destroy ${live.title(id)}?`, text, action: "Destroy" }))) return false;
  return told(`${live.title(id)} is destroyed.`, () => Sandbox.kill(id, client()));
}

/** Removes several at once, after asking once. */
export async function destroyAll(ids: readonly string[]): Promise<boolean> {
  const text = "Their memory, disks and processes are gone for good. Their snapshots stay.";
  if (!(await confirm({ title: `Destroy ${ids.length} sandboxes?`, text, action: "Destroy all" }))) return false;
  return told(`${ids.length} sandboxes are destroyed.`, () => each(ids, (id) => Sandbox.kill(id, client())));
}

/** Few enough at once that the server has room for others. */
const atOnce = 8;

async function each(ids: readonly string[], act: (id: string) => Promise<unknown>): Promise<void> {
  const waiting = [...ids];
  const work = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) await act(id);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

/** Asks for another name; nothing typed takes the name away. */
export async function rename(sandbox: SandboxInfo): Promise<boolean> {
  const name = await ask({
    ...{
      title: `Name ${live.title(sandbox.id)}`,
      label: "Name",
      action: "Name it",
      value: sandbox.name,
      mayBeEmpty: true,
    },
    hint: "Commands take it in place of the id. Empty: no name.",
    check: (text) =>
      text === "" || /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/.test(text)
        ? undefined
        : "1 to 64 letters, digits, dots, dashes, underscores.",
  });
  if (name === undefined) return false;
  return told(name ? `It is called ${name} now.` : "It has no name any more.", async () =>
    live.take(await Sandbox.update(sandbox.id, { name: name || null }, client())),
  );
}

/** Takes a snapshot; the sandbox runs on. */
export const checkpoint = (id: string, name?: string) =>
  told("The checkpoint is taken.", () => Sandbox.checkpoint(id, { ...client(), ...(name && { name }) }));

/** Starts copies; gives the first one, undefined when it failed. */
export async function fork(id: string, options: ForkOptions = {}): Promise<Sandbox | undefined> {
  let copies: Sandbox[] = [];
  const count = options.count ?? 1;
  const ok = await told(count === 1 ? "A copy runs." : `${count} copies run.`, async () => {
    copies = await Sandbox.fork(id, { ...options, ...client() });
    for (const copy of copies) live.take(await copy.info());
  });
  return ok ? copies[0] : undefined;
}

/** Goes back to a snapshot, after asking. */
export async function rollback(id: string, snapshot: string): Promise<boolean> {
  const text = `Everything that happened in ${live.title(id)} since then is lost. Take a checkpoint first to be able to come back.`;
  if (!(await confirm({ title: `Roll back to ${snapshot}?`, text, action: "Roll back" }))) return false;
  return told(`${live.title(id)} is back at ${snapshot}.`, () => Sandbox.rollback(id, snapshot, client()));
}

/** What can be done with a sandbox in its state. */
export const can = ({ status }: Pick<SandboxInfo, "status">) => ({
  pause: status === "running",
  resume: status === "paused",
  snapshot: status === "running" || status === "paused",
  use: status === "running",
  destroy: status !== "stopped" && status !== "stopping",
});
