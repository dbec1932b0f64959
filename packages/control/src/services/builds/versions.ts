import type { TemplateStore, Version } from "../../store/builds/templates.ts";
import { usualTag } from "../../store/builds/templates.ts";
import type { Defaults, SnapshotRow } from "../../store/schema/index.ts";
import type { SnapshotStore } from "../../store/snapshots.ts";

/** A version of a template as something to start from. */
export type Built = Version & { snapshot: SnapshotRow; defaults: Defaults };

/** A template's name and tag. */
export function splitName(text: string): { name: string; tag: string } {
  const at = text.indexOf(":");
  return at < 0 ? { name: text, tag: usualTag } : { name: text.slice(0, at), tag: text.slice(at + 1) };
}

/** Finds versions by what people call them. */
export class Versions {
  constructor(
    readonly templates: TemplateStore,
    readonly snapshots: SnapshotStore,
  ) {}

  /** The version that `name` or `name:tag` means for a team; `undefined` when there is none, or it was never built. */
  async find(team: string, text: string): Promise<Built | undefined> {
    const { name, tag } = splitName(text);
    const template = await this.templates.visible(team, name);
    const build = template && (await this.templates.version(template, tag));
    const snapshot = build && (await this.snapshots.byId(build.snapshotId));
    return snapshot && { template, build, snapshot, defaults: build.defaults };
  }
}
