import { expect, test } from "bun:test";
import { Command } from "commander";
import { type NetworkFlags, networkOptions, policyOf } from "../src/commands/network.ts";

/** The policy that a command line describes. */
const read = (...argv: string[]) =>
  policyOf(
    networkOptions(new Command().exitOverride().configureOutput({ writeErr() {} }))
      .parse(argv, { from: "user" })
      .opts<NetworkFlags>(),
  );

test("no rules are no policy; what is given several times is all of it", () => {
  expect(read()).toBeUndefined();
  expect(read("--no-internet")).toEqual({ internet: false });
  expect(read("--no-internet", "--allow", "pypi.org", "--allow", "*.pythonhosted.org")).toEqual({
    ...{ internet: false, allow: ["pypi.org", "*.pythonhosted.org"] },
  });
  expect(read("--deny", "203.0.113.0/24")).toEqual({ internet: true, deny: ["203.0.113.0/24"] });
});

test("headers are gathered by host, and a malformed one is said to be one", () => {
  expect(read("--header", "a.test=x: 1", "--header", "a.test=y: b: c", "--header", "b.test=z:")).toEqual({
    internet: true,
    headers: { "a.test": { x: "1", y: "b: c" }, "b.test": { z: "" } },
  });
  for (const text of ["a.test", "a.test=x", "=x: 1", "a.test=: 1"])
    expect(() => read("--header", text)).toThrow("HOST=NAME: VALUE");
});
