/** The words that need nothing else to be loaded: errors, names, ids, versions. */
export * from "./errors.ts";
export * from "./headers.ts";
export * from "./ids.ts";
export * from "./init.ts";
export * from "./state.ts";
export * from "./version.ts";
export * from "./volume-wire.ts";
