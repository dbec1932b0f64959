import type { FleetConfig } from "../../config-fleet.ts";
import type { Database } from "../../store/database.ts";
import { HostStore } from "../../store/fleet/hosts.ts";
import { HostTokenStore } from "../../store/fleet/tokens.ts";
import { sharedSecret, sharedText } from "../../store/settings.ts";
import { Box } from "../people/secrets.ts";
import { Authority } from "./authority.ts";
import type { HostsGround } from "./hosts.ts";
import type { Local } from "./ways.ts";

/** What hosts need before there are services: their stores, the authority that names them, and the local one's place. */
export type FleetGround = { hosts: Omit<HostsGround, "sandboxes" | "drains">; local: Local | undefined };

/** Opens it; the first replica of an installation makes the authority. */
export async function openFleet(
  db: Database,
  { local, memoryOvercommit, authority }: FleetConfig,
  secrets: { encryptionKey: Buffer; operatorKey: string | undefined },
): Promise<FleetGround> {
  const store = new HostStore(db);
  const box = new Box(secrets.encryptionKey);
  const keep = (make: () => Promise<string>) => sharedText(db, "certificate_authority", make);
  return {
    hosts: {
      store,
      tokens: new HostTokenStore(db),
      authority: authority ? await Authority.given(authority) : await Authority.open(keep, box),
      agentSecret: await sharedSecret(db, "agent_secret"),
      memoryOvercommit,
      operatorKey: secrets.operatorKey,
    },
    local: local && { ...local, id: await store.local(local.address) },
  };
}
