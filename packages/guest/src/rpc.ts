import { handle, unknownMethod } from "./connect/handler.ts";
import type { Method } from "./connect/method.ts";
import { filesystemMethods } from "./filesystem/service.ts";
import type { Identity } from "./identity/state.ts";
import type { Registry } from "./processes/registry.ts";
import { processMethods } from "./processes/service.ts";

/** Answers a request whose path names a service. */
export type Rpc = (path: string, request: Request) => Promise<Response>;

/** The Connect services `process.Process` and `filesystem.Filesystem`. */
export function services(registry: Registry, identity: Identity): Rpc {
  const methods = new Map<string, Method>();
  for (const [name, method] of Object.entries(processMethods(registry, identity)))
    methods.set(`/process.Process/${name}`, method);
  for (const [name, method] of Object.entries(filesystemMethods(identity)))
    methods.set(`/filesystem.Filesystem/${name}`, method);
  return (path, request) => {
    const method = methods.get(path);
    return method ? handle(method, request, identity) : unknownMethod(path, request);
  };
}
