/** What a guest says of itself; sizes in bytes. */
export type GuestPoint = {
  readonly cpuPct: number;
  readonly memUsedBytes: number;
  readonly memCacheBytes: number;
  readonly memTotalBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
  readonly netRxBytes: number;
  readonly netTxBytes: number;
};

/** Load of a sandbox at one instant: as the host sees it, and as its guest said last. */
export type Point = {
  readonly timestampMs: number;
  /** Share of the sandbox's virtual processors, 0 to 100. */
  readonly cpuPct: number;
  /** Memory that the VMM holds. */
  readonly memBytes: number;
  /** Disk layers beyond the template. */
  readonly diskBytes: number;
  readonly guest?: GuestPoint | undefined;
};

/** Resolution and reach of each tier: ten minutes, two hours, a day (reference: host agent, section 11). */
const tiers = [
  { everyMs: 1_000, points: 600 },
  { everyMs: 30_000, points: 240 },
  { everyMs: 300_000, points: 288 },
] as const;

const hostColumns = ["timestampMs", "cpuPct", "memBytes", "diskBytes"] as const;
const guestColumns = [
  "cpuPct",
  "memUsedBytes",
  "memCacheBytes",
  "memTotalBytes",
  "diskUsedBytes",
  "diskTotalBytes",
  "netRxBytes",
  "netTxBytes",
] as const;
const width = hostColumns.length + guestColumns.length;

/** Rows of numbers of which the oldest are dropped; it grows to its full size, since most sandboxes are short. */
class Ring {
  #cells = new Float64Array(16 * width);
  #first = 0;
  #count = 0;
  /** Whether a row was ever dropped. */
  hasDropped = false;

  constructor(readonly capacity: number) {}

  push(row: ArrayLike<number>): void {
    const rows = this.#cells.length / width;
    if (this.#count === rows && rows < this.capacity) this.#grow(Math.min(rows * 2, this.capacity));
    if (this.#count === this.capacity) {
      this.hasDropped = true;
      this.#first = (this.#first + 1) % this.capacity;
      this.#count--;
    }
    this.#cells.set(row, ((this.#first + this.#count) % (this.#cells.length / width)) * width);
    this.#count++;
  }

  *rows(): Generator<Float64Array> {
    const size = this.#cells.length / width;
    for (let i = 0; i < this.#count; i++) {
      const at = ((this.#first + i) % size) * width;
      yield this.#cells.subarray(at, at + width);
    }
  }

  get oldestMs(): number {
    return this.#count === 0 ? Number.POSITIVE_INFINITY : this.#cells[this.#first * width]!;
  }

  get length(): number {
    return this.#count;
  }

  /** Only before the first wrap: rows lie in order then. */
  #grow(rows: number): void {
    const cells = new Float64Array(rows * width);
    cells.set(this.#cells);
    this.#cells = cells;
  }
}

/** Points of one tier that were gathered and are not a row yet. */
type Gathering = { count: number; sums: Float64Array; until: number };

/** The load of one sandbox over a day, in three tiers; a tier's row is the mean of what it spans. */
export class Series {
  readonly #rings = tiers.map(({ points }) => new Ring(points));
  readonly #gathering: (Gathering | undefined)[] = tiers.map(() => undefined);

  /** Adds a point, which is later than those before it. */
  add(point: Point): void {
    const row = toRow(point);
    this.#rings[0]!.push(row);
    for (let tier = 1; tier < tiers.length; tier++) this.#gather(tier, row);
  }

  /** Points from `startMs` to `endMs`, oldest first, of the finest tier that reaches back to the start. */
  between(startMs: number, endMs: number): Point[] {
    const reaches = (ring: Ring) => !ring.hasDropped || ring.oldestMs <= startMs;
    const ring = this.#rings.find(reaches) ?? this.#rings.at(-1)!;
    const found: Point[] = [];
    for (const row of ring.rows()) if (row[0]! >= startMs && row[0]! <= endMs) found.push(toPoint(row));
    return found;
  }

  /** All of it as bytes, for `decode`. */
  encode(): Uint8Array {
    const cells = this.#rings.reduce((sum, ring) => sum + ring.length, 0) * width;
    const all = new Float64Array(tiers.length * 2 + cells);
    let at = 0;
    for (const ring of this.#rings) {
      all.set([ring.length, ring.hasDropped ? 1 : 0], at);
      at += 2;
      for (const row of ring.rows()) {
        all.set(row, at);
        at += width;
      }
    }
    return new Uint8Array(all.buffer);
  }

  /** The series that `encode` wrote; `undefined` for anything else. */
  static decode(bytes: Uint8Array): Series | undefined {
    if (bytes.length % 8 !== 0) return undefined;
    const all = new Float64Array(bytes.slice().buffer);
    const series = new Series();
    let at = 0;
    for (const ring of series.#rings) {
      const count = all[at];
      if (count === undefined || !(count >= 0 && count <= ring.capacity)) return undefined;
      const end = at + 2 + count * width;
      if (end > all.length) return undefined;
      for (let row = at + 2; row < end; row += width) ring.push(all.subarray(row, row + width));
      ring.hasDropped = all[at + 1] === 1;
      at = end;
    }
    return at === all.length ? series : undefined;
  }

  #gather(tier: number, row: Float64Array): void {
    const { everyMs } = tiers[tier]!;
    const now = row[0]!;
    let gathering = this.#gathering[tier];
    if (gathering && now >= gathering.until) {
      this.#rings[tier]!.push(gathering.sums.map((sum) => sum / gathering!.count));
      gathering = undefined;
    }
    gathering ??= { count: 0, sums: new Float64Array(width), until: (Math.floor(now / everyMs) + 1) * everyMs };
    for (let i = 0; i < width; i++) gathering.sums[i]! += row[i]!;
    gathering.count++;
    this.#gathering[tier] = gathering;
  }
}

/** A guest that was not asked is `NaN` in every column of its own. */
function toRow(point: Point): Float64Array {
  const host = hostColumns.map((name) => point[name]);
  const guest = guestColumns.map((name) => point.guest?.[name] ?? Number.NaN);
  return Float64Array.from([...host, ...guest]);
}

function toPoint(row: Float64Array): Point {
  const [timestampMs, cpuPct, memBytes, diskBytes] = row as unknown as [number, number, number, number];
  const cells = row.subarray(hostColumns.length);
  const isKnown = !cells.some(Number.isNaN);
  const guest = Object.fromEntries(guestColumns.map((name, i) => [name, cells[i]!])) as GuestPoint;
  return { timestampMs: Math.round(timestampMs), cpuPct, memBytes, diskBytes, ...(isKnown && { guest }) };
}
