/** As much as the guest repeats to a reader that comes back, and more, so that the begin of it is always found here. */
const keptBytes = 2 * 1024 * 1024;

/** How much of a repetition must agree before it is believed: longer than any prompt. */
const agreeBytes = 64 * 1024;

/**
 * What a terminal has shown. A guest that is attached to again repeats what it still has, from a place that it does not
 * name; `rest` finds that place, so that nothing is lost and nothing shown twice.
 */
export class History {
  #bytes = new Uint8Array(64 * 1024);
  #length = 0;

  /** Remembers what was shown. */
  add(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes.subarray(-this.#bytes.length), this.#length);
    this.#length += Math.min(bytes.length, this.#bytes.length);
  }

  /** How many bytes are remembered. */
  get length(): number {
    return this.#length;
  }

  /**
   * The part of a repetition that was not shown yet. `undefined` while it is too short to tell: more is needed, or
   * `isWhole` when no more comes. `lost` says that the repetition begins after the end of what was shown.
   */
  rest(repeated: Uint8Array, isWhole: boolean): { bytes: Uint8Array; lost: boolean } | undefined {
    const shown = this.#bytes.subarray(0, this.#length);
    for (let at = 0; at < shown.length; at++) {
      const overlap = shown.length - at;
      if (shown[at] !== repeated[0] || !agrees(shown, at, repeated)) continue;
      if (repeated.length >= overlap) return { bytes: repeated.subarray(overlap), lost: false };
      if (isWhole) return { bytes: new Uint8Array(), lost: false };
      return undefined;
    }
    return repeated.length === 0 ? undefined : { bytes: repeated, lost: shown.length > 0 };
  }

  #grow(more: number): void {
    const wanted = Math.min(keptBytes, Math.max(this.#bytes.length * 2, this.#length + more));
    const room = Math.min(more, wanted);
    const kept = this.#bytes.subarray(Math.max(0, this.#length + room - wanted), this.#length);
    const grown = wanted === this.#bytes.length ? this.#bytes : new Uint8Array(wanted);
    grown.set(kept.slice(), 0);
    this.#length = kept.length;
    this.#bytes = grown;
  }
}

function agrees(shown: Uint8Array, at: number, repeated: Uint8Array): boolean {
  const length = Math.min(shown.length - at, repeated.length, agreeBytes);
  for (let i = 0; i < length; i++) if (shown[at + i] !== repeated[i]) return false;
  return true;
}
