import { httpStatus, rest, WrennError } from "@wrenn/contract";
import type { Volumes } from "../../services/e2b/volumes.ts";
import { asWrennError } from "../../store/database.ts";
import type { VolumeRow } from "../../store/schema/index.ts";
import type { App } from "../endpoint.ts";
import { relay } from "../relay.ts";
import { type Routes, route } from "./route.ts";

/** `/volumes`: a team's volumes. */
export function volumeRoutes(routes: Routes, volumes: Volumes): void {
  const withToken = (row: VolumeRow): rest.e2b.VolumeAndToken => ({ ...present(row), token: volumes.token(row.id) });
  route(routes, "GET /volumes", {}, async ({ caller }) => (await volumes.list(caller)).map(present));
  route(routes, "POST /volumes", { status: 201, body: rest.e2b.NewVolume }, async ({ caller, body }) =>
    withToken(await volumes.create(caller, body.name)),
  );
  route(routes, "GET /volumes/:volume", {}, async ({ caller, c }) =>
    withToken(await volumes.get(caller, c.req.param("volume")!)),
  );
  route(routes, "DELETE /volumes/:volume", {}, ({ caller, c }) => volumes.remove(caller, c.req.param("volume")!));
}

const present = ({ id, name }: VolumeRow): rest.e2b.Volume => ({ volumeID: id, name });

/** The parts of a volume's content, as paths name them (E2B protocol, section 5). */
const parts: readonly string[] = ["dir", "path", "file"];

/** `/volumecontent`: a volume's files, opened by its token. Errors carry their code as text, unlike this dialect's others. */
export function volumeContentRoute(app: App, volumes: Volumes): void {
  app.all("/volumecontent/:volume/:part", async (c) => {
    const { method, headers, body, signal } = c.req.raw;
    const { volume, part } = c.req.param();
    try {
      if (!parts.includes(part)) throw new WrennError("not_found", "A volume's content is at /dir, /path and /file.");
      const token = /^bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
      const length = headers.get("content-length");
      const init = { method, body, signal, ...(length && { headers: { "content-length": length } }) };
      const { search } = new URL(c.req.url);
      const answer = await volumes.content(volume, token, part + search, { ...init, duplex: "half" });
      return await relay(answer, method);
    } catch (thrown) {
      const { code, message, remedy } = asWrennError(thrown);
      return c.json({ code, message: [message, remedy].filter(Boolean).join(" ") }, httpStatus[code] as 400);
    }
  });
}
