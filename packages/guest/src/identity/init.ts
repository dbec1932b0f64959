import { hostname } from "node:os";
import { type InitRequest, type InitResponse, version } from "@wrenn/contract";
import { httpError } from "../http.ts";
import type { Agent } from "../server.ts";

/** Answers `POST /init`. */
export async function initialize(request: Request, { identity }: Agent): Promise<Response> {
  const body = (await request.json().catch(() => ({}))) as InitRequest;
  if (identity.accessToken && body.accessToken !== identity.accessToken)
    return httpError(401, "access token does not match");
  if (body.accessToken) identity.accessToken = body.accessToken;
  Object.assign(identity.envs, body.envVars);
  if (body.defaultUser) identity.setDefaultUser(body.defaultUser);
  if (body.defaultWorkdir) identity.defaultWorkdir = body.defaultWorkdir;
  if (!body.entropy) return new Response(null, { status: 204 });
  const answer: InitResponse = { reseeded: false, timestamp: new Date().toISOString(), hostname: hostname(), version };
  return Response.json(answer);
}
