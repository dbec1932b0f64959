/** What a list of measurements says. Units are those of the measurements. */
export type Summary = { runs: number; median: number; p95: number; min: number; max: number };

/** Whether a smaller or a larger figure is the better one. */
export type Better = "lower" | "higher";

/**
 * Sums up measurements. `p95` is the figure that 95 % of them reach: the 95th percentile where lower is better, the 5th
 * where higher is, so that it is always the bad tail. Percentiles are interpolated between the two nearest.
 */
export function summary(values: readonly number[], better: Better = "lower"): Summary {
  if (values.length === 0) throw new Error("there is nothing to sum up");
  const sorted = [...values].sort((a, b) => a - b);
  return {
    runs: sorted.length,
    median: quantile(sorted, 0.5),
    p95: quantile(sorted, better === "lower" ? 0.95 : 0.05),
    min: sorted[0]!,
    max: sorted.at(-1)!,
  };
}

function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const low = sorted[below]!;
  const high = sorted[Math.ceil(at)]!;
  return low + (high - low) * (at - below);
}

/** One side of a comparison: does the thing once and gives what was measured. */
export type Side = () => Promise<number>;

/** How a comparison is run. */
export type Plan = {
  runs: number;
  /** Rounds before the counted ones: connections, caches and compilers warm up in them. */
  warmUps: number;
  /** Between 0 and 1; replaced in tests. */
  random?: (() => number) | undefined;
  /** Called after each counted round. */
  onRound?: ((done: number) => void) | undefined;
};

/**
 * Runs every side once a round, in a fresh random order each round, so that a machine that gets slower or faster does so
 * for all sides alike and none always follows the same other.
 */
export async function interleaved<Name extends string>(
  sides: Readonly<Record<Name, Side>>,
  plan: Plan,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(sides) as Name[];
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -plan.warmUps; round < plan.runs; round++) {
    for (const name of shuffled(names, plan.random ?? Math.random)) {
      const value = await sides[name]();
      if (round >= 0) values[name].push(value);
    }
    if (round >= 0) plan.onRound?.(round + 1);
  }
  return values;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** Milliseconds that `act` takes. */
export async function timed(act: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await act();
  return performance.now() - started;
}

/** What is promised of a figure. The limit is `absolute`, or made of the baseline of the same run. */
export type Target = { absolute: number } | { times: number } | { plus: number };

/** The figure that `target` allows at worst. */
export function limitOf(target: Target, baseline: number | undefined): number {
  if ("absolute" in target) return target.absolute;
  if (baseline === undefined) throw new Error("this target needs a baseline");
  return "times" in target ? baseline * target.times : baseline + target.plus;
}

/** A target in words, such as `≤ 1.2 × raw`. */
export function targetText(target: Target, better: Better, unit: string): string {
  const sign = better === "lower" ? "≤" : "≥";
  if ("absolute" in target) return `${sign} ${figure(target.absolute)} ${unit}`;
  return "times" in target ? `${sign} ${target.times} × baseline` : `${sign} baseline + ${target.plus} ${unit}`;
}

/**
 * How much of what is allowed a figure uses: 1 is exactly the limit, less is better, whichever way the figure counts.
 * One scale for every promise.
 */
export const used = (value: number, limit: number, better: Better): number =>
  better === "lower" ? value / limit : limit / value;

/** A number with as many digits as a reader uses. */
export function figure(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (Number.isInteger(value)) return String(value);
  if (size >= 100) return value.toFixed(0);
  return value.toFixed(size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}
