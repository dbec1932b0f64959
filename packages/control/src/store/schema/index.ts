/** Every table, a file for each area. The migrations make them. */
export * from "./core.ts";
