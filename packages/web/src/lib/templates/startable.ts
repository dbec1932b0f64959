import type { BuiltTemplateInfo, TemplateInfo, Wrenn } from "wrenn";

/** What a sandbox can start from; `built` is there for what was built here or is the installation's. */
export type Startable = TemplateInfo & { built?: BuiltTemplateInfo };

/** Built templates, images of the hosts and snapshots, in this order. One whose builds all failed is none yet. */
export async function startable(client: Wrenn): Promise<Startable[]> {
  const [all, built] = await Promise.all([client.templates(), client.builds.templates()]);
  const made = built.flatMap((one): Startable[] => (one.current ? [{ ...asTemplate(one), built: one }] : []));
  const names = new Set(made.map(({ name }) => name));
  return [...made, ...all.filter(({ name, kind }) => kind === "snapshot" || !names.has(name))];
}

/** A built template as a row beside the others. */
export const asTemplate = ({ name, current, createdAt }: BuiltTemplateInfo): TemplateInfo => ({
  ...{ name, kind: "base", sizeBytes: current?.sizeBytes ?? 0, createdAt: current?.completedAt ?? createdAt },
  ...(current && { vcpus: current.vcpus, memoryMiB: current.memoryMiB }),
});
