import { expect, test } from "bun:test";
import { rest } from "@wrenn/contract";
import { networkBody, networkInfo } from "../src/network.ts";

test("a policy goes out as the server takes it and comes back as it was written", () => {
  const headers = { "api.test": { authorization: `Bearer ${rest.secretPlaceholder("key")}` } };
  const policy = { internet: false, allow: ["api.test", "203.0.113.0/24"], deny: ["203.0.113.9"], headers };
  const taken = rest.NetworkPolicy.parse(networkBody(policy));
  const flow = { port: 443, protocol: "tcp", count: 2, last_at: "2026-01-01T00:00:00.000Z" } as const;
  const info = networkInfo({
    ...{ sandbox_id: "cl-a", policy: taken, detail: "floor", denials: [] },
    connections: [{ ...flow, host: "api.test", ip: "203.0.113.9", sent_bytes: 1, received_bytes: 2 }],
  });
  expect(info.policy).toEqual(policy);
  expect(info.connections).toEqual([
    {
      ...{ host: "api.test", ip: "203.0.113.9", port: 443, protocol: "tcp", count: 2, sentBytes: 1, receivedBytes: 2 },
      lastAt: new Date("2026-01-01T00:00:00.000Z"),
    },
  ]);
  expect(rest.NetworkPolicy.parse(networkBody({}))).toEqual({ internet: true, allow: [], deny: [], rules: {} });
});
