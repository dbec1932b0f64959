import { headers } from "@wrenn/contract";

/** RFC 9110 section 7.6.1: headers that speak about one connection. */
const hopByHop = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
] as const;

/** Answers this small are sent whole, so that they keep their Content-Length: Bun frames every stream as chunked. */
const wholeBytes = 64 * 1024;
const emptyStatuses: readonly number[] = [204, 205, 304];

/** The headers of a request as a guest may see them: those of the connection, the secrets and `drop` are left out. */
export function sentHeaders(from: Headers, requestId: string, drop: readonly string[]): Headers {
  const sent = new Headers(from);
  dropConnection(sent);
  for (const name of ["host", headers.apiKey, headers.hostToken, headers.guestTls, ...drop]) sent.delete(name);
  sent.set(headers.requestId, requestId);
  // Without it `fetch` asks for compression, and the client would get an encoding it did not offer.
  if (!sent.has("accept-encoding")) sent.set("accept-encoding", "identity");
  return sent;
}

/** A guest's answer as the client gets it: status, headers and body as they come. */
export async function relay(upstream: Response, method: string): Promise<Response> {
  const answer = new Headers(upstream.headers);
  dropConnection(answer);
  const init = { status: upstream.status, headers: answer };
  if (method === "HEAD" || emptyStatuses.includes(upstream.status)) return new Response(null, init);
  const length = Number(upstream.headers.get("content-length") ?? Number.POSITIVE_INFINITY);
  return new Response(length <= wholeBytes ? await upstream.arrayBuffer() : upstream.body, init);
}

function dropConnection(list: Headers): void {
  for (const name of list.get("connection")?.split(",") ?? []) if (name.trim()) list.delete(name.trim());
  for (const name of hopByHop) list.delete(name);
}
