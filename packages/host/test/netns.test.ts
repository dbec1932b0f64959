import { expect, test } from "bun:test";
import fc from "fast-check";
import { isBelowFloor } from "../src/drivers/floor.ts";
import { lastSlot, slot, slotOfPeer } from "../src/drivers/netns/addresses.ts";
import { addressesIn, questionOf, refusal } from "../src/drivers/netns/names.ts";
import { policyRules } from "../src/drivers/netns/rules.ts";
import { NameServer } from "../src/egress/name-server.ts";
import { quiet } from "./support/host.ts";

/** A query for the A records of a name (RFC 1035, section 4.1). */
function query(name: string): Uint8Array {
  const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
}

/** Its answer with these addresses. */
function answer(name: string, ips: readonly string[]): Uint8Array {
  const message = query(name);
  message[2] = 0x81;
  message[7] = ips.length;
  const records = ips.flatMap((ip) => [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...ip.split(".").map(Number)]);
  return Uint8Array.from([...message, ...records]);
}

test("every slot has names and addresses of its own, and its peer's address leads back to it", () => {
  const seen = new Set<string>();
  for (let index = 1; index <= lastSlot; index += 7) {
    const { netns, hostDevice, hostIp, peerIp, reachIp } = slot(index);
    for (const one of [netns, hostDevice, hostIp, peerIp, reachIp]) seen.add(one);
    expect(slotOfPeer(peerIp)!.index).toBe(index);
    expect(hostDevice.length).toBeLessThan(16); // the kernel's limit
  }
  expect(seen.size).toBe(5 * Math.ceil(lastSlot / 7));
  expect(slotOfPeer("192.168.0.1")).toBeUndefined();
});

test("a query's name is read in lower case, and an answer's addresses with how long they hold", () => {
  expect(questionOf(query("Api.Example.COM"))).toBe("api.example.com");
  expect(addressesIn(answer("a.test", ["192.0.2.1", "192.0.2.2"]))).toEqual([
    { ip: "192.0.2.1", seconds: 60 },
    { ip: "192.0.2.2", seconds: 60 },
  ]);
});

test("no bytes of a guest make the reader hang or read past the end", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      questionOf(bytes);
      try {
        addressesIn(bytes);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RangeError);
      }
    }),
  );
});

test("a refusal answers that very query and holds no record", () => {
  const no = refusal(answer("a.test", ["192.0.2.1"]));
  expect([...no.subarray(0, 2)]).toEqual([0x12, 0x34]);
  expect([no[2]! & 0x80, no[3]! & 0x0f]).toEqual([0x80, 5]);
  expect(addressesIn(no)).toEqual([]);
});

test("an address below the floor is told from a public one", () => {
  for (const ip of ["10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0"])
    expect([ip, isBelowFloor(ip)]).toEqual([ip, true]);
  for (const ip of ["::", "::1", "fd00::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:1.1.1.1"])
    expect([ip, isBelowFloor(ip)]).toEqual([ip, true]);
  for (const ip of ["1.1.1.1", "172.32.0.1", "198.51.100.7", "2001:4860:4860::8888"])
    expect([ip, isBelowFloor(ip)]).toEqual([ip, false]);
});

test("names never reach the firewall's rules, addresses do", () => {
  const rules = policyRules({ internet: false, allow: ["pypi.org", "*", "203.0.113.0/24", "fd00::1"], deny: [] }, 4711);
  expect(rules).toContain("203.0.113.0/24");
  for (const other of ["pypi", "*", "fd00"]) expect(rules).not.toContain(other);
  expect(rules).toContain("redirect to :4711");
});

test("a query is handed on under another id and answered under its own; one that is not allowed is refused", async () => {
  const records = answer("a.test", ["192.0.2.1"]).subarray(2);
  const resolver = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data: (socket, asked, port, address) =>
        void socket.send(Uint8Array.from([...asked.subarray(0, 2), ...records]), port, address),
    },
  });
  const rules = { allows: (_: string, name: string) => name === "a.test" };
  await using server = await NameServer.start(["127.0.0.1"], rules, quiet, { resolverPort: resolver.port });
  const got = Promise.withResolvers<Uint8Array>();
  const asker = await Bun.udpSocket({ socket: { data: (_, message) => got.resolve(Uint8Array.from(message)) } });
  asker.send(query("a.test"), server.port, "127.0.0.1");
  expect([...(await got.promise).subarray(0, 2)]).toEqual([0x12, 0x34]);
  expect(addressesIn(await got.promise)).toEqual([{ ip: "192.0.2.1", seconds: 60 }]);
  const refused = Promise.withResolvers<Uint8Array>();
  const other = await Bun.udpSocket({ socket: { data: (_, message) => refused.resolve(Uint8Array.from(message)) } });
  other.send(query("b.test"), server.port, "127.0.0.1");
  expect((await refused.promise)[3]! & 0x0f).toBe(5);
  for (const socket of [resolver, asker, other]) socket.close();
});
