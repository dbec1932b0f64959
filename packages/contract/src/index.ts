/** Every word that crosses a process boundary. No I/O: `start-tracing.ts` and `checked-lookup.ts` are for programs, and no part of this. */
export * from "./bundled.ts";
export * from "./connect-error.ts";
export * from "./errors.ts";
export * as filesystem from "./gen/filesystem/filesystem_pb.ts";
export * as hostagent from "./gen/hostagent/v1/hostagent_pb.ts";
export * as processes from "./gen/process/process_pb.ts";
export * from "./headers.ts";
export * from "./ids.ts";
export * from "./init.ts";
export * as rest from "./rest/index.ts";
export * from "./state.ts";
export * from "./version.ts";
export * from "./volume-wire.ts";
