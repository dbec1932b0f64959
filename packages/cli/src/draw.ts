import type { Branch } from "wrenn";

/** A line of a drawn tree: the branch, and the strokes that lead to it. */
export type Drawn = { strokes: string; branch: Branch };

/** The tree line by line, as a terminal shows it. */
export function* draw(branches: readonly Branch[], indent?: string): Generator<Drawn> {
  for (const [at, branch] of branches.entries()) {
    const isLast = at === branches.length - 1;
    yield { strokes: indent === undefined ? "" : indent + (isLast ? "└── " : "├── "), branch };
    yield* draw(branch.children, indent === undefined ? "" : indent + (isLast ? "    " : "│   "));
  }
}
