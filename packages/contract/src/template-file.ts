import { z } from "zod";

/**
 * A template as an OCI artifact: an image layout in a tar (OCI image, "Image layout" and "Artifacts"), whose configuration
 * is {@link TemplateFacts} and whose one layer is a tar, packed by zstd, with the file {@link templateDisk}. Memory is not
 * in it: only a virtual machine of the same kind on the same processor could go on with that. What has to run is started
 * anew where it is imported, before its memory is frozen there.
 */
export const templateTypes = {
  artifact: "application/vnd.wrenn.template.v1",
  config: "application/vnd.wrenn.template.config.v1+json",
  disk: "application/vnd.wrenn.template.disk.v1.tar+zstd",
} as const;

/** The ext4 file system in the layer of such an artifact. */
export const templateDisk = "rootfs.ext4";

/** Types of its documents that are not ours. */
export const ociTypes = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
} as const;

/** What an exported template says of itself. */
export const TemplateFacts = z.object({
  name: z.string().max(128),
  vcpus: z.int().min(1),
  memoryMib: z.int().min(1),
  user: z.string(),
  workdir: z.string(),
  env: z.record(z.string(), z.string()),
  /** A line for the shell that runs in every sandbox from the begin, and one that succeeds when it is ready. */
  start: z.string().optional(),
  ready: z.string().optional(),
  /** What it was built from. */
  from: z.array(z.object({ name: z.string(), digest: z.string() })).default([]),
});
export type TemplateFacts = z.infer<typeof TemplateFacts>;
