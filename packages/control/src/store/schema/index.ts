/** Every table, a file for each area. The migrations make them. */
export * from "./builds.ts";
export * from "./channels.ts";
export * from "./core.ts";
export type { Terms } from "./e2b.ts";
export * from "./fleet.ts";
export type { Mount } from "./mounts.ts";
export * from "./people.ts";
export * from "./secrets.ts";
export * from "./volumes.ts";
