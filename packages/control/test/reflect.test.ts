import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { hostagent, isFinal, type State, states } from "@wrenn/contract";
import { isOrphan, reflect } from "../src/hosts/reflect.ts";
import type { SandboxRow } from "../src/store/schema/index.ts";

const { SandboxState } = hostagent;
const row = (state: State, more: Partial<SandboxRow> = {}): SandboxRow =>
  ({ id: "x", state, run: 2, version: 5, startedAt: new Date(), ...more }) as SandboxRow;
const report = (state: hostagent.SandboxState, more: { run?: bigint; version?: bigint } = {}) =>
  create(hostagent.SandboxSchema, { id: "x", state, run: 2n, version: 6n, ...more });

describe("what a report changes", () => {
  for (const [from, said, want] of [
    ["starting", SandboxState.RUNNING, "running"],
    ["starting", SandboxState.PAUSED, "paused"],
    ["running", SandboxState.PAUSED, "paused"],
    ["running", SandboxState.STOPPED, "stopped"],
    ["running", SandboxState.ERROR, "error"],
    ["pausing", SandboxState.PAUSED, "paused"],
    ["paused", SandboxState.RUNNING, "running"],
    ["missing", SandboxState.RUNNING, "running"],
    ["stopping", SandboxState.STOPPED, "stopped"],
  ] as const)
    test(`${from} and a host that says ${SandboxState[said]} make ${want}`, () => {
      expect(reflect(row(from), report(said))?.state).toBe(want);
    });

  test("an earlier incarnation, an earlier version and a known one change nothing", () => {
    expect(reflect(row("running"), report(SandboxState.STOPPED, { run: 1n, version: 99n }))).toBeUndefined();
    expect(reflect(row("running"), report(SandboxState.STOPPED, { version: 4n }))).toBeUndefined();
    expect(reflect(row("running"), report(SandboxState.STOPPED, { version: 5n }))).toBeUndefined();
  });

  test("a later incarnation is believed whatever its version", () => {
    expect(reflect(row("paused"), report(SandboxState.RUNNING, { run: 3n, version: 1n }))).toMatchObject({
      state: "running",
      run: 3,
    });
  });

  test("a missing sandbox comes back by a report that says nothing new", () => {
    expect(reflect(row("missing"), report(SandboxState.RUNNING, { version: 5n }))?.state).toBe("running");
  });

  test("an answer settles what nobody carries on, back to the incarnation the host is in", () => {
    const answer = report(SandboxState.PAUSED, { run: 1n, version: 5n });
    expect(reflect(row("resuming"), answer)).toBeUndefined();
    expect(reflect(row("resuming"), answer, true)).toMatchObject({ state: "paused", run: 1 });
  });

  for (const state of states)
    test(`${state} never becomes what no arrows lead to`, () => {
      const result = reflect(row(state), report(SandboxState.RUNNING));
      if (isFinal(state)) expect(result).toBeUndefined();
      if (state === "stopping" || state === "error") expect(result).toBeUndefined();
    });
});

test("an orphan is a sandbox whose row is over, or that never ran; one that broke later holds its user's data", () => {
  expect(isOrphan(row("stopped"), report(SandboxState.RUNNING))).toBe(true);
  expect(isOrphan(row("stopped"), report(SandboxState.STOPPED))).toBe(false);
  expect(isOrphan(row("error", { startedAt: null }), report(SandboxState.RUNNING))).toBe(true);
  expect(isOrphan(row("error"), report(SandboxState.PAUSED))).toBe(false);
  expect(isOrphan(row("running"), report(SandboxState.RUNNING))).toBe(false);
});
