import { type Better, limitOf, type Summary, summary, type Target, targetText, used } from "./measure.ts";

/** Something the project promises, or records to promise later. */
export type Pledge = {
  readonly id: string;
  readonly text: string;
  readonly unit: string;
  readonly better: Better;
  /** None: recorded only. */
  readonly target?: Target;
  /** What `baseline` is. */
  readonly against?: string;
  /** A baseline that was measured elsewhere, on the same kind of machine. */
  readonly given?: number;
};

/** What was measured for a pledge. */
export type Finding = {
  readonly values: readonly number[];
  /** The raw baseline's measurements of the same run. */
  readonly baseline?: readonly number[];
  /** A bare program that does the same, in the same run: tells a slow machine from a slow program. */
  readonly reference?: { readonly what: string; readonly values: readonly number[] };
  readonly note?: string;
};

/** A pledge and its verdict, as `results/latest.json` holds it. Absent figures are `null`. */
export type Outcome = {
  id: string;
  text: string;
  unit: string;
  better: Better;
  value: number;
  p95: number;
  min: number;
  max: number;
  runs: number;
  against: string | null;
  baseline: number | null;
  /** Value divided by baseline. */
  ratio: number | null;
  target: string | null;
  limit: number | null;
  /** Share of what the target allows that is used: at most 1 keeps the promise. */
  used: number | null;
  ok: boolean | null;
  reference: { what: string; value: number; ratio: number } | null;
  note: string | null;
};

/** The verdict on a pledge; value and baseline are medians. */
export function judge(pledge: Pledge, finding: Finding): Outcome {
  const { id, text, unit, better, target } = pledge;
  const found: Summary = summary(finding.values, better);
  const baseline = finding.baseline ? summary(finding.baseline).median : pledge.given;
  const limit = target && limitOf(target, baseline);
  const share = limit === undefined ? undefined : used(found.median, limit, better);
  const { median: value, ...spread } = found;
  return {
    ...{ id, text, unit, better, value, ...spread },
    against: pledge.against ?? null,
    baseline: baseline ?? null,
    ratio: baseline ? value / baseline : null,
    target: target ? targetText(target, better, unit) : null,
    limit: limit ?? null,
    used: share ?? null,
    ok: share === undefined ? null : share <= 1,
    reference: finding.reference ? referred(value, finding.reference) : null,
    note: finding.note ?? null,
  };
}

function referred(value: number, { what, values }: NonNullable<Finding["reference"]>) {
  const { median } = summary(values);
  return { what, value: median, ratio: value / median };
}
