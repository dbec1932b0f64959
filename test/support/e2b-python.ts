import { existsSync } from "node:fs";
import { repository } from "./system.ts";

/** The newest published ones when this was written; `e2b` for Python calls its versions otherwise than for JavaScript. */
const packages = ["e2b==2.63.0", "e2b-code-interpreter==2.11.5", "httpx"];
const environment = `${repository}.cache/e2b-python`;

/** A Python that has the published packages of E2B, in an environment of its own that is made once. */
export async function e2bPython(): Promise<string> {
  const path = `${environment}/bin/python`;
  if (existsSync(`${environment}/complete`)) return path;
  await Bun.$`python3 -m venv --clear ${environment}`.quiet();
  await Bun.$`${environment}/bin/pip install --quiet --disable-pip-version-check ${packages}`.quiet();
  await Bun.write(`${environment}/complete`, "");
  return path;
}
