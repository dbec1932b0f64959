import type { rest } from "@wrenn/contract";
import type { SecretStore } from "../../store/e2b/secrets.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import { sealedFor } from "../e2b/secrets.ts";
import type { Box } from "../people/secrets.ts";
import { checkPlaceholders, type Rendered, render, type Values } from "./placeholders.ts";

/** Whose policy it is. */
export type Owner = Pick<SandboxRow, "id" | "teamId">;

/** Policies as hosts get them: secrets in place of what stands for them. */
export class Policies {
  constructor(
    readonly secrets: SecretStore,
    readonly box: Box,
  ) {}

  /** Throws `invalid_request` for a policy that names what the team has not. */
  async check(team: string, policy: rest.NetworkPolicy | undefined): Promise<void> {
    if (policy) await checkPlaceholders(policy, this.#values(team));
  }

  /** The policy of a sandbox for its host; `undefined` where it has none. */
  async wire({ network, teamId }: Pick<SandboxRow, "network" | "teamId">): Promise<Rendered | undefined> {
    return network ? await render(network, this.#values(teamId)) : undefined;
  }

  #values(team: string): Values {
    return async ({ kind, name }) => {
      if (kind !== "secrets") return undefined;
      const found = await this.secrets.current(team, name.toLowerCase());
      return found && this.box.open(found.value, sealedFor(found.id));
    };
  }
}
