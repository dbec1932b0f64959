import { describe, expect, test } from "bun:test";
import { Code as ConnectCode, ConnectError } from "@connectrpc/connect";
import { codes, fromConnectError, httpStatus, toConnectError, WrennError } from "@wrenn/contract";

describe("errors", () => {
  for (const code of codes)
    test(`${code} survives both wires unchanged`, () => {
      const error = new WrennError(code, "the cause", { remedy: "the remedy", details: { id: "x" } });
      for (const back of [
        WrennError.fromBody(JSON.parse(JSON.stringify(error)))!,
        fromConnectError(toConnectError(error)),
      ]) {
        expect(back.toJSON()).toEqual(error.toJSON());
        expect(back.status).toBe(httpStatus[code]);
      }
    });

  test("a stranger's text never reaches a caller and stays in the cause", () => {
    const stranger = new TypeError("secret path /x");
    expect(JSON.stringify(WrennError.from(stranger))).not.toContain("secret");
    expect(WrennError.from(stranger).cause).toBe(stranger);
    expect(toConnectError(stranger).rawMessage).toBe("internal error");
  });

  test("what stands behind an error is told when it is ours, or the system's name of one", () => {
    const refused = Object.assign(new Error("connect 10.0.0.7:5"), { code: "ECONNREFUSED" });
    const error = new WrennError("host_unavailable", "The host is away.", {
      cause: new Error("x", { cause: refused }),
    });
    const outer = new WrennError("agent_error", "The build failed.", { cause: error });
    expect([error.toJSON().error.cause, outer.toJSON().error.cause]).toEqual(["ECONNREFUSED", "The host is away."]);
    expect(WrennError.fromBody(JSON.parse(JSON.stringify(outer)))!.toJSON()).toEqual(outer.toJSON());
    for (const cause of [new Error("secret"), "text", Object.assign(new Error("x"), { code: "a secret of 7" })])
      expect(new WrennError("agent_error", "x", { cause }).toJSON().error).not.toHaveProperty("cause");
  });

  test("a peer that sends no detail is read by its Connect code", () => {
    expect(fromConnectError(new ConnectError("gone", ConnectCode.NotFound)).code).toBe("not_found");
    expect(fromConnectError(new ConnectError("odd", ConnectCode.DataLoss)).code).toBe("agent_error");
  });

  test("a body that is no envelope gives nothing", () => {
    for (const body of [null, {}, { error: { code: "made_up", message: "x" } }, "text"])
      expect(WrennError.fromBody(body)).toBeUndefined();
  });
});
