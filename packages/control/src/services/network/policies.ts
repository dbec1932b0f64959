import type { rest } from "@wrenn/contract";
import type { SecretStore } from "../../store/e2b/secrets.ts";
import type { SandboxRow, Terms } from "../../store/schema/index.ts";
import { sealedFor } from "../e2b/secrets.ts";
import type { Box } from "../people/secrets.ts";
import type { Identities } from "./identities.ts";
import { checkPlaceholders, type Rendered, render, type Values } from "./placeholders.ts";

/** Whose policy it is. */
type Owner = Pick<SandboxRow, "teamId" | "terms"> & { id?: SandboxRow["id"] };

/** Policies as hosts get them: secrets and identity tokens in place of what stands for them. */
export class Policies {
  constructor(
    readonly secrets: SecretStore,
    readonly box: Box,
    readonly identities: Identities,
  ) {}

  /** Throws `invalid_request` for a policy that names what the team or the sandbox has not. */
  async check(team: string, policy: rest.NetworkPolicy | undefined, terms: Terms | null = null): Promise<void> {
    if (policy) await checkPlaceholders(policy, this.#values({ teamId: team, terms }));
  }

  /** The policy of a sandbox for its host; `undefined` where it has none. */
  async wire(row: Pick<SandboxRow, "id" | "teamId" | "terms" | "network">): Promise<Rendered | undefined> {
    return row.network ? await render(row.network, this.#values(row)) : undefined;
  }

  #values({ id, teamId, terms }: Owner): Values {
    return async ({ kind, name }) => {
      if (kind === "secrets") {
        const found = await this.secrets.current(teamId, name.toLowerCase());
        return found && this.box.open(found.value, sealedFor(found.id));
      }
      const token = terms?.iam?.tokens?.[name];
      if (!token) return undefined;
      return id ? await this.identities.sign({ id, teamId }, token.audience) : ""; // it can be had, once there is a sandbox
    };
  }
}
