import { isFinal, type State } from "@wrenn/contract";

type Phase = { readonly state: State };

/** Whether commands, files and terminals can be reached. */
export const isRunning = ({ state }: Phase): boolean => state === "running";
/** States of a creation under way. */
export const makingStates = ["pending", "starting"] as const satisfies readonly State[];
/** Whether its creation is under way. */
export const isBeingMade = ({ state }: Phase): boolean => (makingStates as readonly State[]).includes(state);
/** Whether it is in the object store: its host holds nothing that counts, and any fitting host can resume it. */
export const isStored = ({ parcel }: { readonly parcel: string }): boolean => parcel !== "";
/** Whether nothing is under way and the sandbox can be used or resumed. */
export const isSettled = ({ state }: Phase): boolean => state === "running" || state === "paused";
/** Whether it is paused. */
export const isPaused = ({ state }: Phase): boolean => state === "paused";
/** Whether it is paused, or on the way there or back. */
export const isDozing = ({ state }: Phase): boolean =>
  state === "paused" || state === "pausing" || state === "resuming";
/** Whether the sandbox ended, or is about to. */
export const isOver = ({ state }: Phase): boolean => isFinal(state) || state === "stopping" || state === "error";
/** States between two settled ones: somebody is, or was, at work. */
export const movingStates = [
  "pending",
  "starting",
  "pausing",
  "resuming",
  "stopping",
] as const satisfies readonly State[];
/** Whether a sandbox in this state will be one that runs: a visitor may come again. */
export const isOnItsWay = (state: string | undefined): boolean =>
  state === "resuming" || makingStates.some((making) => making === state);
/** States that a list leaves out unless it is asked for them. */
export const hiddenStates: readonly State[] = ["stopped", "error"];
/** States of sandboxes whose host was out of reach. */
export const lostStates: readonly State[] = ["missing"];
