import { states } from "@wrenn/contract";
import type { Timings } from "../config.ts";
import type { AccessConfig } from "../config-access.ts";
import type { Fleet } from "../hosts/fleet.ts";
import type { Log } from "../log.ts";
import type { Stores } from "../store/index.ts";
import { Access } from "./access.ts";
import { buildsOn, versionsOn } from "./builds/index.ts";
import { Channels, type ChannelsGround } from "./channels/channels.ts";
import { Commands } from "./commands.ts";
import { Bearers } from "./e2b/bearers.ts";
import { Deadlines } from "./e2b/deadlines.ts";
import { Leases } from "./e2b/leases.ts";
import { Secrets } from "./e2b/secrets.ts";
import { agentTokens } from "./e2b/tokens.ts";
import { Volumes } from "./e2b/volumes.ts";
import { Waker } from "./e2b/waker.ts";
import { Events } from "./events.ts";
import { Files } from "./files.ts";
import { Hosts, type HostsGround } from "./fleet/hosts.ts";
import { Guests } from "./guests.ts";
import { Keys } from "./keys.ts";
import { Labels } from "./labels.ts";
import { Collector } from "./moves/collector.ts";
import { Drains } from "./moves/drains.ts";
import { Hibernation } from "./moves/hibernation.ts";
import { StoreKeys } from "./moves/store-keys.ts";
import { Identities } from "./network/identities.ts";
import { Networks } from "./network/networks.ts";
import { Policies } from "./network/policies.ts";
import { Audit } from "./people/audit.ts";
import { Deeds } from "./people/deeds.ts";
import { buildPeople } from "./people/index.ts";
import { Quotas } from "./people/quotas.ts";
import { Ports } from "./ports.ts";
import { Sandboxes } from "./sandboxes.ts";
import { Snapshots } from "./snapshots.ts";
import { Tasks } from "./tasks.ts";
import { Telemetry } from "./telemetry/telemetry.ts";
import { Terminals } from "./terminals.ts";
import { Mounting } from "./volumes/mounting.ts";
import { VolumeSweeper } from "./volumes/sweeper.ts";

/** What the services stand on. */
export type Ground = Omit<Stores, "channelStore" | "replicaStore"> & {
  /** Builds of templates that this server carries out at once; with 0 it leaves them to others. */
  buildsAtOnce: number;
  /** What tokens and links of ports are made from. */
  portSecret: Buffer;
  /** What tokens of guest agents are made from. */
  agentSecret: Buffer;
  access: AccessConfig;
  /** What secrets that must be read again are encrypted with; 32 bytes. */
  encryptionKey: Buffer;
  fleet: Fleet;
  hosts: Omit<HostsGround, "sandboxes" | "drains">;
  channels: ChannelsGround;
  timings: Pick<Timings, "volumesMs" | "parcelsMs" | "drainsMs">;
  log: Log;
};

/** Builds the services, each on those before it. */
export function buildServices(ground: Ground) {
  const { sandboxStore, snapshotStore, keyStore, fleet, timings, log } = ground;
  const tasks = new Tasks(log);
  const store = ground.eventStore;
  const audit = new Audit(ground.peopleStore.audit, ground.encryptionKey, log);
  const events = new Events({ audit, store, sandboxes: sandboxStore, snapshots: snapshotStore, tasks, log });
  const quotas = new Quotas(ground.peopleStore);
  const storeKeys = new StoreKeys(ground.encryptionKey);
  const identities = new Identities(ground.encryptionKey, () => people.site.server(""));
  const policies = new Policies(ground.secretStore, ground.channels.box, identities);
  const sandboxes = new Sandboxes({
    quotas,
    policies,
    mounting: new Mounting(ground.volumeStore),
    storeKeys,
    store: sandboxStore,
    once: ground.onceStore,
    snapshots: snapshotStore,
    versions: versionsOn(ground),
    fleet,
    tasks,
    events,
    log,
    agentToken: agentTokens(ground.agentSecret),
  });
  const hibernation = new Hibernation(sandboxes, ground.parcelStore, storeKeys);
  const drains = new Drains({
    store: ground.drainStore,
    hosts: ground.hosts.store,
    sandboxes,
    hibernation,
    fleet,
    log,
    takeOverMs: timings.drainsMs,
  });
  const waker = new Waker(sandboxes);
  const networks = new Networks(sandboxes, policies);
  const guests = new Guests(sandboxes, fleet, sandboxStore);
  const snapshots = new Snapshots(snapshotStore, sandboxes);
  const keys = new Keys(keyStore, audit, log);
  const volumes = new Volumes({ store: ground.volumeStore, fleet, audit, secret: ground.agentSecret });
  const volumeSweeper = new VolumeSweeper(volumes, log, timings.volumesMs);
  const people = buildPeople({
    ...ground,
    keys,
    audit,
    quotas,
    destroy: (caller, owned) => {
      for (const { id, team } of owned) tasks.start(() => sandboxes.destroy({ ...caller, team }, id));
    },
    emptyTeam: async (caller, team) => {
      tasks.start(() => volumeSweeper.look());
      const all = await sandboxStore.list(team, { states: livingStates, limit: Number.MAX_SAFE_INTEGER });
      for (const { id } of all) tasks.start(() => sandboxes.destroy({ ...caller, team }, id));
    },
  });
  return {
    ...people,
    quotas,
    log,
    audit,
    deeds: new Deeds(),
    tasks,
    events,
    sandboxes,
    labels: new Labels(sandboxes, sandboxStore),
    snapshots,
    networks,
    identities,
    leases: new Leases(sandboxes, snapshots, waker, networks),
    secrets: new Secrets({
      ...{ store: ground.secretStore, box: ground.channels.box, audit },
      changed: (caller, name) => tasks.start(() => networks.renew(caller, name)),
    }),
    volumes,
    volumeSweeper,
    bearers: new Bearers(sandboxStore, sandboxes.agentToken),
    deadlines: new Deadlines(sandboxes, log),
    guests,
    fleet,
    channels: new Channels(ground.channels),
    usage: ground.usageStore,
    hosts: new Hosts({ ...ground.hosts, sandboxes, drains }),
    hibernation,
    drains,
    collector: new Collector(ground.parcelStore, fleet, storeKeys, log, timings.parcelsMs),
    keys,
    ports: new Ports({ store: ground.portStore, guests, keys, waker, secret: ground.portSecret }),
    access: new Access(keys, people.sessions, ground.access.corsOrigins),
    commands: new Commands(guests),
    files: new Files(guests),
    terminals: new Terminals(guests),
    ...buildsOn(ground, { sandboxes, guests }),
    telemetry: new Telemetry(sandboxes, fleet),
  };
}

const livingStates = states.filter((state) => state !== "stopped");

/** Everything that edges call. */
export type Services = ReturnType<typeof buildServices>;
