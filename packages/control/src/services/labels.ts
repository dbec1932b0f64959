import type { rest, SandboxId } from "@wrenn/contract";
import { NameTaken, type SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import type { Caller } from "./caller.ts";
import { absent, nameTaken } from "./refusals.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** What a team writes on its sandboxes: names and metadata. Hosts know neither. */
export class Labels {
  constructor(
    readonly sandboxes: Pick<Sandboxes, "get">,
    readonly store: Pick<SandboxStore, "label" | "find">,
  ) {}

  /**
   * Changes a sandbox's name and metadata, after `agreed` has seen it as it is; that throws to refuse. Throws
   * `not_found`, and `conflict` for a name in use.
   */
  async change(
    caller: Caller,
    id: SandboxId,
    { name, metadata }: rest.UpdateCapsule,
    agreed: (row: SandboxRow) => Promise<void>,
  ): Promise<SandboxRow> {
    const labels = { ...(name !== undefined && { name: name ?? "" }), ...(metadata && { metadata }) };
    for (;;) {
      const seen = await this.sandboxes.get(caller, id);
      await agreed(seen);
      if (Object.keys(labels).length === 0) return seen;
      const row = await this.#write(seen, labels);
      if (row) return row;
      if (!(await this.store.find(id))) throw absent(id);
    }
  }

  async #write(seen: SandboxRow, labels: Partial<Pick<SandboxRow, "name" | "metadata">>) {
    try {
      return await this.store.label(seen, labels);
    } catch (thrown) {
      throw thrown instanceof NameTaken ? nameTaken(labels.name!) : thrown;
    }
  }
}
