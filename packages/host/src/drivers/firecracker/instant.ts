import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { chmod, copyFile, rename, rm } from "node:fs/promises";
import type { FirecrackerApi } from "./api.ts";
import { isWholeState } from "./device-state.ts";
import type { Home } from "./home.ts";

/**
 * Device state and memory of one instant. A machine that is stopped is not still: its VMM goes on to take what arrives on
 * the tap, and writes it to the guest's memory. Memory that is read after the state was saved may be younger than that
 * state, and a guest whose receive queue does not fit its memory never receives again.
 *
 * Firecracker's API saves state and memory in one call, the whole memory beside it. So the memory is to go to a pipe that
 * nobody reads: Firecracker writes the state, durably, and then waits in open(2) of that pipe, its devices with it. Once
 * somebody reads the pipe it finds that this is no file to write a memory to, and refuses; the machine stays stopped.
 */

const stateName = "device.new";
const pipeName = "memory.pipe";

/** The state is there within milliseconds, and a look at it costs a fraction of one. */
const pollMs = 1;

type Held = { readonly api: FirecrackerApi; readonly home: Home };

/** Saves the device state of a stopped machine as the file `path`, and does `act` while it stands still in that very state. */
export async function atOneInstant<T>({ api, home }: Held, path: string, act: () => Promise<T>): Promise<T> {
  const state = `${home.root}/${stateName}`;
  await rm(state, { force: true });
  const pipe = home.bringPipe(pipeName);
  const names = { snapshot_path: stateName, mem_file_path: pipeName };
  let refusal: unknown;
  const call = api.put("/snapshot/create", { snapshot_type: "Full", ...names }).catch((thrown: unknown) => {
    refusal = thrown;
  });
  try {
    while (!isWholeState(contentOf(state))) {
      if (refusal !== undefined) throw refusal;
      await Bun.sleep(pollMs);
    }
    const value = await act();
    await goOn(pipe, () => call);
    await rename(state, path).catch(() => copyFile(state, path)); // on another file system
    await chmod(path, 0o600);
    return value;
  } finally {
    await goOn(pipe, () => call);
    await rm(state, { force: true });
  }
}

/** Lets a machine go on that an agent held still when it was killed. Does nothing for any other. */
export async function letGo({ api, home }: Held): Promise<void> {
  await goOn(`${home.root}/${pipeName}`, () => api.info().catch(() => {}));
}

/** Reads the pipe until `answered`, and removes it: whoever comes to open it later would make a file of that name. */
async function goOn(pipe: string, answered: () => Promise<unknown>): Promise<void> {
  let reader: number;
  try {
    reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return; // it is gone: the machine went on before
  }
  try {
    await answered();
  } finally {
    closeSync(reader);
    await rm(pipe, { force: true });
  }
}

function contentOf(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch {
    return new Uint8Array();
  }
}
