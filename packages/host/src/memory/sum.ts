/** Bytes of a sum. */
export const sumBytes = 8;

/**
 * A sum that tells damage: XXH64 (its specification: xxHash fast digest algorithm), little endian. Whoever may write to
 * these files may do anything to the guest anyway, so it need not withstand them; and it is scalar, so an emulated
 * processor computes it about as fast as it reads, which it does not with SHA-256.
 */
export function sumOf(bytes: Uint8Array): Uint8Array {
  const sum = new Uint8Array(sumBytes);
  new DataView(sum.buffer).setBigUint64(0, Bun.hash.xxHash64(bytes), true);
  return sum;
}
