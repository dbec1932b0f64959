import { WrennError } from "@wrenn/contract";
import type { MiddlewareHandler } from "hono";
import { z } from "zod";
import { needAdmin, needPerson } from "../services/access.ts";
import type { Services } from "../services/index.ts";
import { type App, type Env, endpoint } from "./endpoint.ts";

/** What an extension is given, so that it imports nothing of ours. */
export type Tools = {
  /** For routes and middleware; everything that is added by `endpoint` stands in the OpenAPI document. */
  app: App;
  endpoint: typeof endpoint;
  services: Services;
  z: typeof z;
  WrennError: typeof WrennError;
  needPerson: typeof needPerson;
  needAdmin: typeof needAdmin;
};

/** A module that adds to the server (docs/extensions.md). Each part may be absent. */
export type Extension = {
  name: string;
  /** Runs around every request below `/v1` that has passed the door. */
  middleware?: MiddlewareHandler<Env>;
  /** Adds routes, once, at start. */
  routes?(tools: Tools): void;
  /** Begins work beside requests, at start; what it answers is disposed of when the server stops. */
  worker?(services: Services): Promise<AsyncDisposable | undefined> | AsyncDisposable | undefined;
};

/** Loads the modules at `paths`. Throws `invalid_request` for one that cannot be loaded or is none. */
export async function loadExtensions(paths: readonly string[]): Promise<Extension[]> {
  return await Promise.all(paths.map(load));
}

async function load(path: string): Promise<Extension> {
  const loaded = await import(path).catch((cause) => {
    throw unusable(path, `it cannot be loaded: ${cause instanceof Error ? cause.message : cause}`, cause);
  });
  const found = loaded.default as Partial<Extension> | undefined;
  if (typeof found?.name !== "string") throw unusable(path, "its default export has no name");
  return found as Extension;
}

const unusable = (path: string, why: string, cause?: unknown) =>
  new WrennError("invalid_request", `The extension ${path} is of no use: ${why}.`, {
    remedy: "Check WRENN_EXTENSIONS: absolute paths of modules, separated by commas; see docs/extensions.md.",
    cause,
  });

/** Adds what extensions bring; before the document is made, and behind the door. */
export function extend(app: App, services: Services, extensions: readonly Extension[]): void {
  const tools = { app, endpoint, services, z, WrennError, needPerson, needAdmin };
  for (const { routes } of extensions) routes?.(tools);
}
