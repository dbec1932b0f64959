import { read } from "node:fs";
import { promisify } from "node:util";
import { rest, WrennError } from "@wrenn/contract";
import { minFreeDiskMib, needDisk } from "../room.ts";
import type { Open } from "./beneath.ts";
import type { Tree } from "./tree.ts";
import type { Volumes } from "./volumes.ts";

/** Where volumes are: `/volumes/{id}`, and their files below it. */
export const volumesPath = "/volumes/";

const route = /^\/volumes\/([^/]+)(?:\/(dir|path|file))?$/;

type Asked = { readonly tree: Tree; readonly request: Request; readonly query: rest.e2b.VolumeQuery; root: string };

/** Answers a request for a volume or its files. Throws what {@link Volumes} and {@link Tree} throw. */
export async function volumeRoute(request: Request, volumes: Volumes): Promise<Response> {
  const url = new URL(request.url);
  const [, id, part] = route.exec(url.pathname) ?? [];
  if (id === undefined) throw new WrennError("not_found", `no such path: ${url.pathname}`);
  if (part === undefined) return life(request.method, id, volumes);
  const parsed = rest.e2b.VolumeQuery.safeParse(Object.fromEntries(url.searchParams));
  if (!parsed.success) throw new WrennError("invalid_request", `query: ${parsed.error.issues[0]!.message}`);
  const act = acts[`${request.method} ${part}`];
  if (!act) throw new WrennError("not_found", `no such path: ${request.method} ${url.pathname}`);
  using tree = volumes.open(id);
  return await act({ tree, request, query: parsed.data, root: volumes.root });
}

async function life(method: string, id: string, volumes: Volumes): Promise<Response> {
  if (method === "PUT") await volumes.create(id);
  else if (method === "DELETE") await volumes.remove(id);
  else throw new WrennError("not_found", `no such path: ${method} ${volumesPath}${id}`);
  return new Response(null, { status: 204 });
}

/** What can be done with the files of a volume (E2B protocol, section 5). */
const acts: Readonly<Record<string, (asked: Asked) => Promise<Response>>> = {
  "GET dir": async ({ tree, query }) => Response.json(tree.list(query.path, query.depth)),
  "POST dir": async ({ tree, query }) =>
    Response.json(tree.makeDir(query.path, query, query.force === true), { status: 201 }),
  "GET path": async ({ tree, query }) => Response.json(tree.stat(query.path)),
  "PATCH path": async ({ tree, query, request }) => {
    const parsed = rest.e2b.VolumeOwnership.safeParse(await request.json().catch(() => undefined));
    if (!parsed.success) throw new WrennError("invalid_request", `body: ${parsed.error.issues[0]!.message}`);
    return Response.json(tree.change(query.path, parsed.data));
  },
  "DELETE path": async ({ tree, query }) => {
    tree.remove(query.path);
    return new Response(null, { status: 204 });
  },
  "GET file": async ({ tree, query }) => sent(tree.read(query.path)),
  "PUT file": async ({ tree, query, request, root }) => {
    const announced = Number(request.headers.get("content-length") ?? 0);
    await needDisk(root, minFreeDiskMib + Math.ceil(announced / 2 ** 20));
    const { uid, gid, mode, force } = query;
    const body = (request.body ?? new Blob().stream()) as AsyncIterable<Uint8Array>;
    return Response.json(await tree.write(query.path, body, { uid, gid, mode, replace: force !== false }), {
      status: 201,
    });
  },
};

const pieceBytes = 256 * 1024;
const readAt = promisify(read);

/** An open file as an answer: read as it is taken, closed at its end or when the client goes. */
function sent(file: Open & { readonly size: number }): Response {
  const done = () => file[Symbol.dispose]();
  let at = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { bytesRead, buffer } = await readAt(file.fd, Buffer.allocUnsafe(pieceBytes), 0, pieceBytes, at);
        at += bytesRead;
        if (bytesRead > 0) return controller.enqueue(buffer.subarray(0, bytesRead));
        done();
        controller.close();
      },
      cancel: done,
    },
    { highWaterMark: 0 },
  );
  const type = "application/octet-stream";
  return new Response(body, { headers: { "content-type": type, "content-length": `${file.size}` } });
}
