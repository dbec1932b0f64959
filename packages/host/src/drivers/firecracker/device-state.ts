/**
 * Whether the file of a machine's device state is whole: it ends with its CRC-64 (Firecracker, src/vmm/src/snapshot), and
 * the sum over bytes and sum together is zero then.
 */
export const isWholeState = (bytes: Uint8Array): boolean => bytes.length > sumBytes && crc64(bytes) === 0n;

/** The CRC-64 that Firecracker ends its files with: Jones' polynomial, reflected, from zero (as in Redis). */
export function crc64(bytes: Uint8Array): bigint {
  let [high, low] = [0, 0];
  for (const byte of bytes) {
    const at = (low ^ byte) & 0xff;
    low = ((low >>> 8) | (high << 24)) ^ table.low[at]!;
    high = (high >>> 8) ^ table.high[at]!;
  }
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

const sumBytes = 8;

/** For each byte its part of the sum, in halves: numbers of 64 bits are slow. */
const table = (() => {
  const polynomial = 0x95ac_9329_ac4b_c9b5n; // reflected
  const [high, low] = [new Int32Array(256), new Int32Array(256)];
  for (let byte = 0; byte < 256; byte++) {
    let sum = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) sum = sum & 1n ? (sum >> 1n) ^ polynomial : sum >> 1n;
    high[byte] = Number(BigInt.asIntN(32, sum >> 32n));
    low[byte] = Number(BigInt.asIntN(32, sum));
  }
  return { high, low };
})();
