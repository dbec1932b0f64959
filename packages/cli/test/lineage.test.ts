import { describe, expect, test } from "bun:test";
import { lineage, lineOf, type SandboxInfo, type SnapshotInfo } from "wrenn";
import { draw } from "../src/draw.ts";

let clock = 0;
const sandbox = (id: string, template: string, origin?: string) =>
  ({ id, template, origin, createdAt: new Date(++clock) }) as SandboxInfo;
const snapshot = (name: string, sandboxId: string, parent?: string) =>
  ({ name, sandboxId, parent, createdAt: new Date(++clock) }) as SnapshotInfo;
const lines = (...args: Parameters<typeof lineage>) =>
  [...draw(lineage(...args))].map(({ strokes, branch }) => strokes + branch.name);

describe("lineage", () => {
  test("hangs snapshots and sandboxes below what they come from, oldest first", () => {
    const points = [snapshot("s1", "a"), snapshot("s2", "a", "s1"), snapshot("s3", "b", "s1")];
    const boxes = [sandbox("a", "base", "s2"), sandbox("b", "base", "s3"), sandbox("c", "base")];
    expect(lines(boxes, points)).toEqual([
      "base",
      "├── s1",
      "│   ├── s2",
      "│   │   └── a",
      "│   └── s3",
      "│       └── b",
      "└── c",
    ]);
    expect([...draw(lineOf(lineage(boxes, points), "b"))].map(({ branch }) => branch.name)).toEqual([
      "base",
      "s1",
      "s2",
      "a",
      "s3",
      "b",
    ]);
    expect(lineOf(lineage(boxes, points), "base")).toEqual([]);
  });

  test("a snapshot whose sandbox is gone stands for itself, one whose parent is gone below the template", () => {
    expect(
      lines([sandbox("x", "base", "copy")], [snapshot("lone", "gone"), snapshot("copy", "gone", "deleted")]),
    ).toEqual(["lone", "base", "└── copy", "    └── x"]);
  });

  test("templates are trees of their own, and an empty server has none", () => {
    expect(lines([sandbox("p", "python"), sandbox("q", "base")], [])).toEqual(["python", "└── p", "base", "└── q"]);
    expect(lines([], [])).toEqual([]);
  });
});
