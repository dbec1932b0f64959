import { headers, type rest } from "@wrenn/contract";
import type { Plane } from "./plane.ts";

type Body = Partial<rest.e2b.NewSandbox> & Record<string, unknown>;

/** Calls of the E2B dialect, to the plane that a test file starts before its tests. */
export function e2bCalls(plane: () => Plane) {
  /** A new sandbox of `minimal`, or as the body says. */
  const create = (body: Body = {}, path = "/v2/sandboxes") =>
    plane().json<rest.e2b.Sandbox>(201, "POST", path, { templateID: "minimal", ...body });
  const info = (id: string) => plane().json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${id}`);
  const act = (id: string, action: string, body: object = {}) =>
    plane().fetch("POST", `/sandboxes/${id}/${action}`, body);
  const status = async (answer: Promise<Response>) => (await answer).status;
  const refusal = async (answer: Promise<Response>) => (await (await answer).json()) as rest.e2b.ErrorBody;
  /** Seconds that a sandbox has left. */
  const left = async (id: string) => (Date.parse((await info(id)).endAt) - Date.now()) / 1000;
  /** A request of somebody without a key. */
  const visit = (path: string, init: { method?: string; headers?: Record<string, string> } = {}) =>
    fetch(plane().address + path, { redirect: "manual", ...init });
  /** A visit to a sandbox's port, which is named by headers. */
  const toPort = (id: string, port: number, more: Record<string, string> = {}) =>
    visit("/", { headers: { [headers.e2bSandboxId]: id, [headers.e2bSandboxPort]: String(port), ...more } });
  return { create, info, act, status, refusal, left, visit, toPort };
}
