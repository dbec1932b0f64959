/** What the guest sees of its network; the same in every sandbox, so that a restore needs no re-addressing. */
export const tapNet = {
  ip: "169.254.0.21",
  prefix: 30,
  /** The name space's end of the link; name service too. */
  gateway: "169.254.0.22",
  guestMac: "02:fc:00:00:00:05",
  /** The same everywhere, since a restored guest still holds it in its neighbour table. */
  gatewayMac: "02:fc:00:00:00:06",
} as const;

/** Slots are numbered from 1; the ranges below have room for this many. */
export const lastSlot = 32_767;

/** The range of the links between this machine and the name spaces, /31 each. */
export const linkRange = "10.12.0.0/16";

/** Interfaces of ours on this machine begin so. */
export const hostDevicePrefix = "wrenn-v-";

/** Names and addresses of one slot: a network name space with a way to this machine. */
export type Slot = {
  readonly index: number;
  readonly netns: string;
  /** This machine's end of the link. */
  readonly hostDevice: string;
  readonly hostIp: string;
  /** The name space's end. */
  readonly peerIp: string;
  /** Where this machine reaches the guest, on every port. */
  readonly reachIp: string;
};

/** The slot with this number. */
export function slot(index: number): Slot {
  const link = index * 2;
  const address = (second: number, value: number) => `10.${second}.${(value >> 8) & 255}.${value & 255}`;
  return {
    ...{ index, netns: `wrenn-ns-${index}`, hostDevice: `${hostDevicePrefix}${index}` },
    ...{ hostIp: address(12, link), peerIp: address(12, link + 1), reachIp: address(11, index) },
  };
}

/** The slot whose name space opens its connections from `peerIp`; `undefined` for an address that is none. */
export function slotOfPeer(peerIp: string): Slot | undefined {
  const [a, b, c, d] = peerIp.split(".").map(Number);
  if (a !== 10 || b !== 12) return undefined;
  return slot(((c! << 8) | d!) >> 1);
}
