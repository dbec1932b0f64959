import type { SQL } from "bun";
import { openBuildStores } from "./builds/index.ts";
import type { Database } from "./database.ts";
import { SecretStore } from "./e2b/secrets.ts";
import { VolumeStore } from "./e2b/volumes.ts";
import { EventStore } from "./events.ts";
import { ChannelStore } from "./fleet/channels.ts";
import { DrainStore } from "./fleet/drains.ts";
import { ParcelStore } from "./fleet/parcels.ts";
import { ReplicaStore } from "./fleet/replicas.ts";
import { UsageStore } from "./fleet/usage.ts";
import { KeyStore } from "./keys.ts";
import { OnceStore } from "./once.ts";
import { PeopleStore } from "./people/index.ts";
import { PortStore } from "./ports.ts";
import { SandboxStore } from "./sandboxes.ts";
import { SnapshotStore } from "./snapshots.ts";

/** What is kept in the database, by subject. */
export type Stores = ReturnType<typeof openStores>;

/** Opens every store of a database. */
export const openStores = (db: Database, client: SQL) => ({
  sandboxStore: new SandboxStore(db),
  snapshotStore: new SnapshotStore(db),
  onceStore: new OnceStore(db),
  keyStore: new KeyStore(db),
  portStore: new PortStore(db),
  secretStore: new SecretStore(db),
  volumeStore: new VolumeStore(db),
  buildStores: openBuildStores(db),
  peopleStore: new PeopleStore(db),
  eventStore: new EventStore(client),
  channelStore: new ChannelStore(client),
  usageStore: new UsageStore(client),
  parcelStore: new ParcelStore(client),
  drainStore: new DrainStore(client),
  replicaStore: new ReplicaStore(client),
});
