/** The guest agent's Connect services. Describing their messages takes time, which a program may want to spend later. */
export * from "./connect-error.ts";
export * as filesystem from "./gen/filesystem/filesystem_pb.ts";
export * as processes from "./gen/process/process_pb.ts";
