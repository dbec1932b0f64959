import { parseSandboxId, rest, safeName, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { Leases } from "../../services/e2b/leases.ts";
import { plainName } from "../../services/e2b/names.ts";
import { implicit, type Snapshots } from "../../services/snapshots.ts";
import type { SnapshotRow } from "../../store/schema/index.ts";
import { snapshot } from "./present.ts";
import { nextToken, pageQuery, type Routes, readToken, route, sandboxOf, tokenAfter } from "./route.ts";

const ListQuery = z.object({ sandboxID: z.string().optional(), name: z.string().optional(), ...pageQuery });

/** Snapshots of sandboxes: templates that come from a running one. */
export function snapshotRoutes(routes: Routes, leases: Leases, snapshots: Snapshots): void {
  route(
    routes,
    "POST /sandboxes/:id/snapshots",
    { status: 201, body: rest.e2b.NewSnapshot },
    async ({ caller, body, c }) => {
      const label = { name: readName(body.name), diskOnly: body.memory === false };
      return snapshot(await leases.snapshot(caller, sandboxOf(c), label));
    },
  );
  route(routes, "GET /snapshots", { query: ListQuery }, async ({ caller, query, c }) => {
    const rows = (await snapshots.list(caller)).filter((row) => isShown(row, query));
    const from = query.nextToken ? placeAfter(rows, query.nextToken) : 0;
    const page = rows.slice(from, from + query.limit);
    if (from + query.limit < rows.length) c.header(nextToken, tokenAfter(page.at(-1)!));
    return page.map(snapshot);
  });
}

/** Snapshots that a fork took for its children are not its caller's. */
function isShown({ name, sandboxId, metadata }: SnapshotRow, query: z.output<typeof ListQuery>): boolean {
  if (metadata.implicit === implicit.implicit) return false;
  if (query.name !== undefined && plainName(query.name) !== name) return false;
  return query.sandboxID === undefined || parseSandboxId(query.sandboxID) === sandboxId;
}

/** Rows are newest first; the one that the token names may be gone. */
function placeAfter(rows: readonly SnapshotRow[], token: string): number {
  const { createdAt, id } = readToken(token);
  const isBeyond = (row: SnapshotRow) =>
    row.createdAt < createdAt || (row.createdAt.getTime() === createdAt.getTime() && row.id < id);
  const at = rows.findIndex(isBeyond);
  return at < 0 ? rows.length : at;
}

function readName(given: string | null | undefined): string | undefined {
  if (!given) return undefined;
  const name = plainName(given);
  if (safeName.test(name)) return name;
  throw new WrennError("invalid_request", `"${given}" is no name for a snapshot.`, {
    remedy: "A name has 1 to 64 letters, digits, `.`, `_`, `-`.",
  });
}
