import { capsuleId, parseSandboxId, type SandboxId } from "@wrenn/contract";
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
  [/PUT/, /^\/network$/, "network_update"],
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

/** What changes hosts, channels, templates and builds: method, path, resource and action. The path's part names it. */
const changes: readonly [method: RegExp, path: RegExp, resource: string, action: string][] = [
  [/POST/, /^\/v1\/hosts$/, "host", "create"],
  [/DELETE/, /^\/v1\/hosts\/([^/]+)$/, "host", "delete"],
  [/POST/, /^\/v1\/hosts\/([^/]+)\/token$/, "host", "renew_token"],
  [/POST/, /^\/v1\/hosts\/([^/]+)\/(?:cordon|uncordon|drain|maintenance)$/, "host", "set_mode"],
  [/POST|DELETE/, /^\/v1\/hosts\/([^/]+)\/tags/, "host", "tag"],
  [/POST/, /^\/v1\/channels$/, "channel", "create"],
  [/PATCH/, /^\/v1\/channels\/([^/]+)$/, "channel", "update"],
  [/PUT/, /^\/v1\/channels\/([^/]+)\/config$/, "channel", "rotate_config"],
  [/DELETE/, /^\/v1\/channels\/([^/]+)$/, "channel", "delete"],
  [/POST/, /^\/v1\/templates\/([^/]+)\/builds$/, "build", "create"],
  [/POST/, /^\/v1\/builds\/([^/]+)\/cancel$/, "build", "cancel"],
  [/DELETE/, /^\/v1\/templates\/([^/]+)$/, "template", "delete"],
];

/** Fields of a request that tell what was done. */
const telling = ["cmd", "path", "timeout_sec", "name", "provider", "type", "tag"] as const;

/** Notes in the audit log what callers do inside sandboxes, and to hosts, channels and templates, whether or not they succeed. */
export function auditing(audit: Audit): MiddlewareHandler<Env> {
  return async (c, next) => {
    await next();
    const caller = c.get("caller");
    const deed = caller && (inside(c.req.method, c.req.path) ?? changed(c.req.method, c.req.path));
    if (!deed) return;
    const isDone = c.res.status < 400;
    const metadata = { ...told(c.get("body")), ...told(c.req.query()), ...(!isDone && { status: `${c.res.status}` }) };
    audit.note(caller, { ...deed, ...(!isDone && { status: "error" }), metadata });
  };
}

function inside(method: string, path: string): Deed | undefined {
  const [, id, rest] = /^\/v1\/(?:admin\/)?capsules\/([^/]+)(\/.+)$/.exec(path) ?? [];
  const sandbox = parseSandboxId(id ?? "");
  return sandbox && rest ? insideOf(sandbox, method, rest) : undefined;
}

/** What a request to a path below a sandbox does inside its guest, if it is one of what is noted. */
export function insideOf(sandbox: SandboxId, method: string, path: string): Deed | undefined {
  const action = actions.find(([how, where]) => how.test(method) && where.test(path))?.[2];
  return action ? { resource: { type: "sandbox", id: capsuleId(sandbox) }, action } : undefined;
}

function changed(method: string, path: string): Deed | undefined {
  const found = changes.find(([how, where]) => how.test(method) && where.test(path));
  if (!found) return undefined;
  const [, where, type, action] = found;
  const named = where.exec(path)?.[1];
  const id = named === undefined ? undefined : asWritten(named);
  const scope = type === "host" ? "admin" : "team";
  const status = action === "delete" || action === "cancel" ? "warning" : "success";
  return { resource: { type, ...(id !== undefined && { id }) }, action, scope, status };
}

/** What a part of a path stands for; one that is not well encoded is what it is. */
function asWritten(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function told(from: unknown): Deed["metadata"] {
  if (typeof from !== "object" || from === null) return {};
  const found = telling.map((name) => [name, (from as Record<string, unknown>)[name]] as const);
  return Object.fromEntries(found.filter(([, value]) => isPlain(value)).map(([name, value]) => [name, `${value}`]));
}

const isPlain = (value: unknown): boolean => typeof value === "string" || typeof value === "number";
