import type { WrennEvent } from "wrenn";

const actions: Record<string, string> = {
  "capsule.create": "created",
  "capsule.pause": "paused",
  "capsule.resume": "resumed",
  "capsule.destroy": "destroyed",
  "capsule.fork": "forked",
  "capsule.rollback": "rolled back",
  "template.snapshot.create": "snapshot taken",
  "template.snapshot.delete": "snapshot deleted",
  "host.up": "host up",
  "host.down": "host down",
};

/** An event in a few words. */
export function describeEvent({ kind, metadata, outcome, error }: WrennEvent): string {
  if (kind === "capsule.state.changed") return `${metadata.from ?? "?"} → ${metadata.to ?? "?"}`;
  const said = actions[kind] ?? kind;
  return outcome === "error" ? `${said}: failed${error ? ` (${error})` : ""}` : said;
}
