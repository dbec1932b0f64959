/** The control plane as a library: one function that starts it. */
import { compile, type Options } from "./config.ts";
import { buildApp } from "./edges/app.ts";
import { BuildStreams } from "./edges/builds/stream.ts";
import { readDashboard } from "./edges/dashboard/files.ts";
import { Lanes } from "./edges/dashboard/lanes.ts";
import { loadExtensions } from "./edges/extension.ts";
import { TunnelDoor } from "./edges/fleet/tunnel.ts";
import { Ingress } from "./edges/ingress.ts";
import { serve } from "./edges/server.ts";
import { Streams } from "./edges/streams.ts";
import { Fleet } from "./hosts/fleet.ts";
import { connectHost } from "./hosts/host.ts";
import { Registry } from "./hosts/registry.ts";
import { Tunnels } from "./hosts/tunnels.ts";
import { openLog } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { Courier } from "./services/channels/courier.ts";
import { openFleet } from "./services/fleet/open.ts";
import { Pruner } from "./services/fleet/pruner.ts";
import { wayTo } from "./services/fleet/ways.ts";
import { buildServices } from "./services/index.ts";
import { Box } from "./services/people/secrets.ts";
import { openDatabase } from "./store/database.ts";
import { openStores } from "./store/index.ts";
import { listenForAccess, listenForDeeds } from "./store/people/changes.ts";
import { sharedSecret } from "./store/settings.ts";
import { certificateOf } from "./tls/certificates.ts";

export type { Options, Timings } from "./config.ts";

/** A host that answers tells everything it has within milliseconds; one that is away must not keep the server from starting. */
const firstSyncMs = 3_000;

/** A running control plane. `stop` finishes what is under way. */
export type ControlPlane = {
  readonly address: string;
  readonly secureAddress: string | undefined;
  stop(): Promise<void>;
};

/** Starts a control plane: connects, migrates, watches the hosts and listens. Throws `invalid_request` for bad options. */
export async function start(options: Options): Promise<ControlPlane> {
  const config = compile(options);
  const log = openLog(config.logLevel);
  await using undo = new AsyncDisposableStack();
  const { db, client, close } = await openDatabase(config.databaseUrl);
  undo.defer(close);
  const stores = openStores(db, client);
  const { sandboxStore, snapshotStore, channelStore } = stores;
  const operatorKey = await stores.keyStore.bootstrap(config.bootstrapApiKey);
  const encryptionKey = config.access.encryptionKey
    ? Buffer.from(config.access.encryptionKey, "hex")
    : await sharedSecret(db, "encryption_key");
  const { hosts, local } = await openFleet(db, config.fleet, { encryptionKey, operatorKey });
  const fleet = new Fleet(config.fleet.strategy);
  const box = new Box(encryptionKey);
  const allowsPrivate = config.fleet.privateDestinations;
  const services = buildServices({
    ...stores,
    buildsAtOnce: config.buildsAtOnce,
    portSecret: await sharedSecret(db, "port_secret"),
    agentSecret: hosts.agentSecret,
    access: config.access,
    encryptionKey,
    fleet,
    hosts,
    channels: { store: channelStore, box, allowsPrivate },
    timings: config.timings,
    log,
  });
  undo.use(services.keys);
  undo.use(services.sessions);
  undo.use(services.mailer);
  undo.use(services.audit);
  undo.use(services.janitor);
  const extensions = await loadExtensions(config.extensions);
  for (const { worker } of extensions) {
    const work = await worker?.(services);
    if (work) undo.use(work);
  }
  undo.use(await listenForAccess(client, () => services.access.forget()));
  undo.use(await listenForDeeds(client, (team, resource) => services.deeds.tell(team, resource)));
  undo.use(services.events);
  undo.defer(() => services.tasks.idle());
  undo.use(services.deadlines);
  undo.use(services.networks);
  undo.use(services.drains);
  undo.use(services.collector);
  undo.use(services.volumeSweeper);
  undo.use(new Pruner(stores.eventStore, log));
  undo.use(await Courier.start({ store: channelStore, box, allowsPrivate, log }));
  undo.use(services.templates);
  undo.use(services.worker);
  const tunnels = undo.use(new Tunnels(stores.replicaStore, log));
  const registry = undo.use(
    await Registry.start({
      fleet,
      client,
      hostStore: hosts.store,
      store: sandboxStore,
      snapshots: snapshotStore,
      timings: config.timings,
      log,
      memoryOvercommit: hosts.memoryOvercommit,
      renew: () => hosts.authority.renew(),
      connect: (row) => {
        const way = wayTo(row, local, {
          ...{ authority: hosts.authority, tunnels },
          agentToken: (id) => services.hosts.agentToken(id),
        });
        return way && connectHost(row.id, way);
      },
      remove: (row) => services.sandboxes.remove(row),
    }),
  );
  tunnels.onJoin = (id) => void registry.anew(id);
  const metrics = new Metrics(() => sandboxStore.counts());
  const built = await readDashboard(config.dashboardDir);
  const app = buildApp(services, { log, config, metrics, built, extensions });
  const edges = {
    ...{ app, lanes: new Lanes(app, services.access) },
    ...{ events: services.events, tasks: services.tasks },
    door: new TunnelDoor(services.hosts, tunnels),
    streams: new Streams(services, config.timings.authMs, log),
    buildStreams: new BuildStreams(services, config.timings, log),
    ingress: new Ingress(services, log, metrics),
  };
  const server = undo.use(serve(config, edges, config.tls && (await certificateOf(config.tls))));
  services.site.listens(server.address);
  await registry.synced(firstSyncMs);
  const { address, secureAddress } = server;
  log.info({ address, secureAddress }, "listening");
  const held = undo.move();
  return { address, secureAddress, stop: () => held.disposeAsync() };
}
