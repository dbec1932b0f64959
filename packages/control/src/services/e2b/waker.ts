import { type SandboxId, WrennError } from "@wrenn/contract";
import { isOver, isRunning, movingStates } from "../../store/phase.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { wrongState } from "../refusals.ts";
import type { ResumeWish, Sandboxes } from "../sandboxes.ts";

/** How often a change that another request or replica carries out is looked at. */
const lookEveryMs = 25;

/** Brings paused sandboxes back, once for however many wait for it. */
export class Waker {
  readonly #waking = new Map<SandboxId, Promise<SandboxRow>>();

  constructor(readonly sandboxes: Sandboxes) {}

  /**
   * The sandbox once it runs, resumed if it was paused; a change under way is waited for. `wish` counts for the resume
   * only. Throws `invalid_state` when it is over, and whatever the resume throws.
   */
  wake(caller: Caller, id: SandboxId, wish: ResumeWish = {}): Promise<SandboxRow> {
    const under = this.#waking.get(id);
    if (under) return under;
    const waking = this.#wake(caller, id, wish).finally(() => this.#waking.delete(id));
    this.#waking.set(id, waking);
    return waking;
  }

  async #wake(caller: Caller, id: SandboxId, wish: ResumeWish): Promise<SandboxRow> {
    const until = Date.now() + limits.resume;
    for (;;) {
      const row = await this.sandboxes.get(caller, id);
      if (isRunning(row)) return row;
      if (isOver(row) || Date.now() > until) throw wrongState(row);
      if ((movingStates as readonly string[]).includes(row.state)) await Bun.sleep(lookEveryMs);
      else {
        const resumed = await this.sandboxes.resume(caller, id, wish).catch(raced);
        if (resumed) return resumed;
      }
    }
  }
}

/** Another replica was faster: its resume is waited for. */
function raced(thrown: unknown): undefined {
  const isMoving =
    thrown instanceof WrennError &&
    thrown.code === "invalid_state" &&
    [...movingStates, "running"].some((state) => state === thrown.details?.state);
  if (!isMoving) throw thrown;
}
