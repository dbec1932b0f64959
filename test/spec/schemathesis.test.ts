import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { startConfinedGuest } from "../../packages/control/test/support/confined-guest.ts";
import { Human } from "../../packages/control/test/support/people.ts";
import { Plane } from "../../packages/control/test/support/plane.ts";
import type { GuestProcess } from "../support/guest-process.ts";

const root = join(import.meta.dir, "../..");
const folder = join(root, ".cache/schemathesis");
const program = join(folder, "bin/schemathesis");
const version = "4.32.5";
/** Cases for each operation and phase; more find more, and take longer. */
const cases = process.env.SCHEMATHESIS_CASES ?? "3";
const checks = ["not_a_server_error", "status_code_conformance", "response_schema_conformance"];

/** What ends the session that asks, removes the only host, follows for ever, or changes the whole installation. */
const excluded =
  "(/logout|/v1/me$|/v1/me/(sessions|password$|mfa)|/events|/stream$|/pty|/admin/settings|/v1/hosts/|/agent/|/metrics$)";

/** Installs it from PyPI beside the other tools; why that did not work, when it did not. */
async function missing(): Promise<string | undefined> {
  if (!Bun.which("bwrap")) return "bubblewrap, which keeps made-up paths from this machine's files, is not installed";
  if (existsSync(program)) return undefined;
  const made = await Bun.$`python3 -m venv ${folder}`.quiet().nothrow();
  if (made.exitCode !== 0) return "python3 has no venv";
  const got = await Bun.$`${folder}/bin/pip install --quiet schemathesis==${version}`.quiet().nothrow();
  return got.exitCode === 0 ? undefined : "schemathesis cannot be installed from PyPI";
}

const lacking = await missing();
const plane = lacking === undefined ? await Plane.start() : undefined;
let guest: GuestProcess | undefined;
afterAll(async () => {
  await plane?.[Symbol.asyncDispose]();
  await guest?.[Symbol.asyncDispose]();
});

const title = "schemathesis finds no 5xx, no undocumented status and no answer of another shape than documented";
if (!plane) test.skip(`${title} — skipped: ${lacking}`, () => {});
else
  test(title, async () => {
    const { token } = (await Human.join(plane, "Ann")).auth;
    guest = await startConfinedGuest();
    plane.host.guest = guest.address;
    plane.host.storeId = "a store"; // a host without one answers 503, and says so
    await plane.create();
    const run = Bun.spawn(
      [
        ...[program, "run", `${plane.address}/openapi.json`, "-H", `Authorization: Bearer ${token}`],
        ...["--checks", checks.join(","), "--phases", "coverage,fuzzing", "-n", cases, "--seed", "7", "--no-shrink"],
        ...["--exclude-path-regex", excluded, "--continue-on-failure", "--no-color", "--warnings", "off"],
        ...["--request-timeout", "20", "--generation-allow-x00", "true", "--generation-database", "none"],
      ],
      { cwd: folder, stdout: "pipe", stderr: "pipe" },
    );
    const said = await new Response(run.stdout).text();
    if ((await run.exited) !== 0) console.log(said.slice(-6_000));
    expect(run.exitCode).toBe(0);
    expect(Number(/(\d+) generated/.exec(said)?.[1])).toBeGreaterThan(500);
  }, 280_000);
