import type { Host } from "../../hosts/host.ts";
import type { Defaults, Mount } from "../../store/schema/index.ts";

/**
 * What a new sandbox starts from: a template, or a snapshot, which is one too, and the hosts that have it, best first.
 * `name` is what it is shown as.
 */
export type Source = {
  hosts: readonly Host[];
  name: string;
  template: string;
  snapshot?: string;
  /** What commands get that name no user, folder or variable; absent leaves it to the template or snapshot. */
  defaults?: Defaults;
  /** Volumes of the hosts that are mounted in it. */
  mounts?: readonly Mount[];
};
