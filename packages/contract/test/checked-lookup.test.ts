import { expect, test } from "bun:test";
import type { LookupAddress } from "node:dns";
import { promisify } from "node:util";
import { checkedLookup } from "../src/checked-lookup.ts";

const refused = new Error("refused");
const lookup = (isAllowed: (address: string) => boolean) => promisify(checkedLookup(isAllowed, () => refused));

test("a name gives its allowed addresses, one or all", async () => {
  expect(await lookup(() => true)("127.0.0.1", {})).toBe("127.0.0.1");
  const all = (await lookup((address) => address === "127.0.0.1")("localhost", { all: true })) as unknown;
  expect((all as LookupAddress[]).map(({ address }) => address)).toEqual(["127.0.0.1"]);
});

test("a name with none is refused by the caller's own error", async () => {
  await expect(lookup(() => false)("localhost", {})).rejects.toBe(refused);
  await expect(lookup(() => false)("127.0.0.1", { all: true })).rejects.toBe(refused);
});

test("a name that does not exist is the resolver's error", async () => {
  await expect(lookup(() => true)("no-such-name.invalid", {})).rejects.toThrow(/ENOTFOUND|EAI_AGAIN/);
});
