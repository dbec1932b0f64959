import { httpError } from "../http.ts";
import type { Identity } from "../identity/state.ts";
import { resolvePath } from "../users.ts";
import { compose } from "./compose.ts";
import { download } from "./download.ts";
import { authorizeFile } from "./signature.ts";
import { upload } from "./upload.ts";

/** Answers `/files`: GET sends a file, POST writes one or many. */
export async function filesRoute(request: Request, query: URLSearchParams, identity: Identity): Promise<Response> {
  const { method } = request;
  if (method !== "GET" && method !== "HEAD" && method !== "POST") return httpError(405, "use GET or POST");
  authorizeFile(request, query, method === "POST" ? "write" : "read", identity);
  const user = identity.user(query.get("username") ?? "");
  const path = query.get("path") ?? "";
  const { defaultWorkdir } = identity;
  if (method !== "POST") return download(request, resolvePath(path, user, defaultWorkdir));
  return Response.json(await upload(request, { path, user, defaultWorkdir }));
}

/** Answers `POST /files/compose`. */
export async function composeRoute(request: Request, identity: Identity): Promise<Response> {
  return Response.json(await compose(request, identity));
}
