import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Identity } from "../src/identity/state.ts";

const folder = mkdtempSync(join(tmpdir(), "wrenn-restart-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, "identity.json");

test("an agent that is started again has the identity of the one before, and lets no older /init pass", () => {
  const before = new Identity();
  before.take({ accessToken: "secret", defaultUser: "root", defaultWorkdir: "/srv" });
  Object.assign(before.envs, { A: "1" });
  before.advanceTo(1000n);
  before.save(file);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const after = new Identity();
  after.restore(file, true);
  expect(after.accepts("secret")).toBe(true);
  expect(after.accepts(null)).toBe(false);
  expect(after.envs).toEqual({ A: "1" });
  expect(after.defaultWorkdir).toBe("/srv");
  expect(after.user("").name).toBe("root");
  expect(after.advanceTo(1000n)).toBe(false);
});

test("where it had one and that is lost, nobody is let in; where it had none, all are", () => {
  const lost = new Identity();
  lost.restore(join(folder, "none"), true);
  expect([lost.accepts(null), lost.accepts("")]).toEqual([false, false]);
  const fresh = new Identity();
  fresh.restore(join(folder, "none"), false);
  expect(fresh.accepts(null)).toBe(true);
});
