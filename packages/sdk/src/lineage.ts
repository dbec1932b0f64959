import type { SandboxInfo } from "./lifecycle.ts";
import type { SnapshotInfo } from "./snapshots.ts";

/** A template, snapshot or sandbox, and what was made from it. */
export type Branch =
  | { kind: "template"; name: string; children: Branch[] }
  | { kind: "snapshot"; name: string; snapshot: SnapshotInfo; children: Branch[] }
  | { kind: "sandbox"; name: string; sandbox: SandboxInfo; children: Branch[] };

type Place = { parent: string | undefined; branch: Branch };

/** Sandboxes and snapshots below what they come from, oldest first; the roots are templates, where they are known. */
export function lineage(sandboxes: readonly SandboxInfo[], snapshots: readonly SnapshotInfo[]): Branch[] {
  const points = new Map(
    snapshots.map((snapshot) => [
      snapshot.name,
      { kind: "snapshot" as const, name: snapshot.name, snapshot, children: [] as Branch[] },
    ]),
  );
  const places: Place[] = [
    ...[...points.values()].map((branch) => ({ parent: branch.snapshot.parent, branch })),
    ...sandboxes.map((sandbox) => ({
      parent: sandbox.origin,
      branch: { kind: "sandbox" as const, name: sandbox.id, sandbox, children: [] },
    })),
  ];
  places.sort((one, other) => createdAt(one.branch) - createdAt(other.branch));
  const roots: Branch[] = [];
  for (const { parent, branch } of places) {
    const above = parent === undefined ? undefined : points.get(parent);
    (above?.children ?? roots).push(branch);
  }
  return belowTemplates(roots, sandboxes);
}

const createdAt = (branch: Branch): number =>
  branch.kind === "template" ? 0 : (branch.kind === "sandbox" ? branch.sandbox : branch.snapshot).createdAt.getTime();

/** A snapshot does not say its template; the sandbox it is of does, or one that stands on it. */
function belowTemplates(roots: readonly Branch[], sandboxes: readonly SandboxInfo[]): Branch[] {
  const templates = new Map(sandboxes.map(({ id, template }) => [id, template]));
  const grouped: Branch[] = [];
  for (const root of roots) {
    const name = templateOf(root, templates);
    if (name === undefined) {
      grouped.push(root);
      continue;
    }
    const group = grouped.find((one) => one.kind === "template" && one.name === name);
    if (group) group.children.push(root);
    else grouped.push({ kind: "template", name, children: [root] });
  }
  return grouped;
}

function templateOf(root: Branch, templates: ReadonlyMap<string, string>): string | undefined {
  for (const branch of walk(root)) {
    if (branch.kind === "sandbox") return branch.sandbox.template;
    const own = branch.kind === "snapshot" ? templates.get(branch.snapshot.sandboxId) : undefined;
    if (own !== undefined) return own;
  }
  return undefined;
}

/** A branch and all that is below it. */
export function* walk(root: Branch): Generator<Branch> {
  const waiting = [root];
  for (let branch = waiting.pop(); branch; branch = waiting.pop()) {
    yield branch;
    waiting.push(...branch.children);
  }
}

/** The part of the tree that a sandbox or snapshot belongs to: its oldest ancestor below the template, and all of that. */
export function lineOf(roots: readonly Branch[], name: string): Branch[] {
  const holds = (root: Branch) => [...walk(root)].some((one) => one.name === name && one.kind !== "template");
  return roots.filter(holds).map((root) => {
    if (root.kind !== "template") return root;
    return { ...root, children: root.children.filter(holds) };
  });
}
