import type { Fleet } from "../../hosts/fleet.ts";
import type { Log } from "../../log.ts";
import type { openBuildStores } from "../../store/builds/index.ts";
import type { SnapshotStore } from "../../store/snapshots.ts";
import type { Guests } from "../guests.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { Box } from "./box.ts";
import { Builds } from "./builds.ts";
import { Exports } from "./exports.ts";
import { Origins } from "./origins.ts";
import { Templates } from "./templates.ts";
import { Uploads } from "./uploads.ts";
import { Versions } from "./versions.ts";
import { Worker } from "./worker.ts";

/** The queries that templates and builds stand on. */
export type BuildStores = ReturnType<typeof openBuildStores>;

type Ground = {
  buildStores: BuildStores;
  buildsAtOnce: number;
  portSecret: Buffer;
  encryptionKey: Buffer;
  snapshotStore: SnapshotStore;
  fleet: Fleet;
  log: Log;
};

/** What finds built templates by name: sandboxes start from them. */
export const versionsOn = ({ buildStores, snapshotStore }: Ground): Versions =>
  new Versions(buildStores.templates, snapshotStore);

/** The services about templates and their builds, on the sandboxes that builds happen in. */
export function buildsOn(ground: Ground, { sandboxes, guests }: { sandboxes: Sandboxes; guests: Guests }) {
  const { buildStores: stores, buildsAtOnce: atOnce, snapshotStore: snapshots, fleet, log } = ground;
  const { versions } = sandboxes.ground;
  const origins = new Origins(fleet, versions, stores.files);
  const box = new Box(ground.encryptionKey);
  const worker = new Worker({ ...stores, snapshots, sandboxes, guests, origins, box, atOnce, log });
  return {
    worker,
    uploads: new Uploads(ground.portSecret),
    exports: new Exports({ versions, queue: stores.queue, fleet }),
    builds: new Builds({ ...stores, origins, worker, box }),
    templates: new Templates({ ...stores, snapshots, fleet, log }),
  };
}
