import { ptr } from "bun:ffi";
import { pageBytes } from "./pages.ts";

/** `bytes` of zeros that begin at a page's border in memory, as writes past the system's cache ask for (open(2), O_DIRECT). */
export function alignedBytes(bytes: number): Uint8Array {
  const room = new Uint8Array(bytes + pageBytes).buffer; // asked for, a buffer is where it stays
  const beyond = Number(ptr(room)) % pageBytes;
  return new Uint8Array(room, (pageBytes - beyond) % pageBytes, bytes);
}
