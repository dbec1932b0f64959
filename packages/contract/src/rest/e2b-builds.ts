import { z } from "zod";
import { templateTag } from "./builds.ts";

/** Bodies about templates in the E2B dialect (E2B protocol, section 5). Fields that no behaviour depends on are let pass unread. */

const command = z.string().max(64 * 1024);
const tag = z.string().regex(templateTag, "a tag has letters, digits, `.`, `_`, `-`");

/** Body of `POST /v3/templates`: a build is announced. */
export const NewTemplate = z.object({
  name: z.string().min(1).max(256),
  tags: z.array(tag).max(20).nullish(),
  cpuCount: z.int().min(1).max(32).nullish(),
  memoryMB: z.int().min(128).max(65_536).nullish(),
});

/** An instruction of a build. */
export const BuildStep = z.object({
  type: z.string().max(64),
  args: z
    .array(z.string().max(1024 * 1024))
    .max(1_000)
    .default([]),
  filesHash: z.string().max(128).nullish(),
  force: z.boolean().nullish(),
});

/** Who opens the registry of an image. */
export const ImageRegistry = z.discriminatedUnion("type", [
  z.object({ type: z.literal("registry"), username: z.string(), password: z.string() }),
  z.object({ type: z.literal("aws") }).loose(),
  z.object({ type: z.literal("gcp") }).loose(),
]);

/** Body of `POST /v2/templates/{template}/builds/{build}`: what is built. */
export const StartBuild = z.object({
  fromImage: z.string().max(512).nullish(),
  fromTemplate: z.string().max(256).nullish(),
  fromImageRegistry: ImageRegistry.nullish(),
  steps: z.array(BuildStep).max(1_000).nullish(),
  startCmd: command.nullish(),
  readyCmd: command.nullish(),
  force: z.boolean().nullish(),
});
export type StartBuild = z.infer<typeof StartBuild>;

/** Body of `PATCH /templates/{template}`. */
export const UpdateTemplate = z.object({ public: z.boolean() });

/** Body of `POST /templates/tags`. */
export const AssignTags = z.object({ target: z.string().min(1).max(256), tags: z.array(tag).min(1).max(20) });
/** Body of `DELETE /templates/tags`. */
export const RemoveTags = z.object({ name: z.string().min(1).max(256), tags: z.array(z.string()).min(1).max(20) });
