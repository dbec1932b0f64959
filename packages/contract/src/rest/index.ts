/** Shapes of the public REST API, a file for each area; OpenAPI is generated from them. */

export * from "./admin.ts";
export * from "./builds.ts";
export * from "./core.ts";
export * as e2b from "./e2b.ts";
export * from "./e2b-builds.ts";
export * from "./events.ts";
export * from "./fleet.ts";
export * from "./network.ts";
export * from "./people.ts";
export * from "./telemetry.ts";
export * from "./volumes.ts";
