import { capsuleId, type SandboxId, type State, WrennError } from "@wrenn/contract";
import type { SandboxRow } from "../store/schema/index.ts";

/** The error for an id that is nobody's, or not the caller's: the two look the same. */
export const absent = (id: SandboxId) =>
  new WrennError("not_found", "There is no such sandbox.", {
    remedy: "Check the id; `GET /v1/capsules` lists the sandboxes of the key's team.",
    details: { id: capsuleId(id) },
  });

/** The error of an action that the sandbox's present state does not allow. */
export const wrongState = (row: Pick<SandboxRow, "id" | "state">) =>
  new WrennError("invalid_state", `The sandbox is ${row.state}.`, {
    remedy: remedyFor[row.state] ?? "Wait until the change under way has finished, then try again.",
    details: { id: capsuleId(row.id), state: row.state },
  });

/** The error of an action that needs a sandbox's host, of one that is in the object store. */
export const isHibernated = ({ id }: Pick<SandboxRow, "id">) =>
  new WrennError("invalid_state", "The sandbox is hibernated: it is in the object store.", {
    remedy: "Resume it first.",
    details: { id: capsuleId(id), state: "paused" },
  });

const remedyFor: Partial<Record<State, string>> = {
  running: "It runs already; there is nothing to do.",
  paused: "Resume it first.",
  stopped: "Create a new one.",
  error: "Delete it and create a new one.",
  missing: "Its host is out of reach; it comes back with the host.",
};

/** The error of a name that is in use. */
export const nameTaken = (name: string) =>
  new WrennError("conflict", `Another sandbox of the team is called "${name}".`, {
    remedy: "Choose another name, or rename or delete that one; `GET /v1/capsules?name=` finds it.",
    details: { name },
  });

/** The error of a creation under a key that stands for another one. */
export const otherCreation = (id: SandboxId) =>
  new WrennError("conflict", "The idempotency key was used for a creation with another body.", {
    remedy: "Use a new key for every creation, and the same body when one is tried again.",
    details: { id: capsuleId(id) },
  });
