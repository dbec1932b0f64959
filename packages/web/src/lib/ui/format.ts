const units = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes with a unit, at most three digits. */
export function bytes(count: number | undefined): string {
  if (count === undefined) return "–";
  let unit = 0;
  let value = count;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** MiB with a unit. */
export const mib = (count: number | undefined): string => bytes(count === undefined ? undefined : count * 1024 * 1024);

const steps: [limit: number, unit: string, ms: number][] = [
  [60_000, "s", 1_000],
  [3_600_000, "min", 60_000],
  [86_400_000, "h", 3_600_000],
  [Number.POSITIVE_INFINITY, "d", 86_400_000],
];

/** A duration in its largest unit, such as `4 min`. */
export function duration(ms: number): string {
  const positive = Math.max(0, ms);
  const [, unit, size] = steps.find(([limit]) => positive < limit)!;
  return `${Math.floor(positive / size)} ${unit}`;
}

/** Date and time as the reader's computer writes them. */
export const dateTime = (at: Date | undefined): string =>
  at ? at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "–";

/** The first characters of an id: enough to tell it apart in a list. */
export const shortId = (id: string): string => (id.length > 15 ? `${id.slice(0, 11)}…${id.slice(-3)}` : id);
