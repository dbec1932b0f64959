import { bad, good } from "./toasts.svelte.ts";

/** Does something and says how it went; false when it failed. */
export async function act(done: string, work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    if (done) good(done);
    return true;
  } catch (thrown) {
    bad(thrown);
    return false;
  }
}
