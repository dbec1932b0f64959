/** Every word that crosses a process boundary. No I/O: `start-tracing.ts` and `checked-lookup.ts` are for programs, and no part of this. */
export * from "./bundled.ts";
export * from "./core.ts";
export * as hostagent from "./gen/hostagent/v1/hostagent_pb.ts";
export * as rest from "./rest/index.ts";
export * from "./wire.ts";
