import { capsuleId, parseSandboxId } from "@wrenn/contract";
import type { MiddlewareHandler } from "hono";
import type { Audit, Deed } from "../../services/people/audit.ts";
import type { Env } from "../endpoint.ts";

/** What below a sandbox acts inside its guest, by method and path. Its life cycle is noted by the service. */
const actions: readonly [method: RegExp, path: RegExp, action: string][] = [
  [/POST/, /^\/exec$/, "exec"],
  [/POST/, /^\/files\/(stream\/)?write$/, "file_write"],
  [/POST/, /^\/files\/(stream\/)?read$/, "file_read"],
  [/POST/, /^\/files\/list$/, "file_list"],
  [/POST/, /^\/files\/mkdir$/, "file_mkdir"],
  [/POST/, /^\/files\/remove$/, "file_remove"],
  [/DELETE/, /^\/processes\/[^/]+$/, "process_signal"],
  [/POST/, /^\/ports\/\d+$/, "port_open"],
  [/POST/, /^\/timeout$/, "timeout_update"],
  [/POST/, /^\/agent\/process\.Process\/Start$/, "exec"],
  [/POST/, /^\/agent\/process\.Process\/Connect$/, "attach"],
  [/POST/, /^\/agent\/process\.Process\/SendSignal$/, "process_signal"],
  [/GET/, /^\/agent\/files$/, "file_read"],
  [/POST|PUT/, /^\/agent\/files/, "file_write"],
  [/POST/, /^\/agent\/filesystem\.Filesystem\/(ListDir|WatchDir|CreateWatcher)$/, "file_list"],
  [/POST/, /^\/agent\/filesystem\.Filesystem\/MakeDir$/, "file_mkdir"],
  [/POST/, /^\/agent\/filesystem\.Filesystem\/Move$/, "file_move"],
  [/POST/, /^\/agent\/filesystem\.Filesystem\/Remove$/, "file_remove"],
];

/** Fields of a request that tell what was done. */
const telling = ["cmd", "path", "timeout_sec"] as const;

/** Notes in the audit log what callers do inside sandboxes, whether or not they succeed. */
export function auditing(audit: Audit): MiddlewareHandler<Env> {
  return async (c, next) => {
    await next();
    const caller = c.get("caller");
    const [, id, rest] = /^\/v1\/(?:admin\/)?capsules\/([^/]+)(\/.+)$/.exec(c.req.path) ?? [];
    const action = rest && actions.find(([method, path]) => method.test(c.req.method) && path.test(rest))?.[2];
    const sandbox = id && parseSandboxId(id);
    if (!caller || !action || !sandbox) return;
    audit.note(caller, {
      resource: { type: "sandbox", id: capsuleId(sandbox) },
      action,
      status: c.res.status < 400 ? "success" : "error",
      metadata: {
        ...told(c.get("body")),
        ...told(c.req.query()),
        ...(c.res.status >= 400 && { status: `${c.res.status}` }),
      },
    });
  };
}

function told(from: unknown): Deed["metadata"] {
  if (typeof from !== "object" || from === null) return {};
  const found = telling.map((name) => [name, (from as Record<string, unknown>)[name]] as const);
  return Object.fromEntries(
    found.filter(([, value]) => value !== undefined).map(([name, value]) => [name, `${value}`]),
  );
}
