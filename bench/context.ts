import type { Finding, Pledge } from "./ledger.ts";
import type { World } from "./world.ts";

/** What a suite is given. */
export type Context = {
  /** How often to measure: `normal`, unless the command line says otherwise. */
  runs(normal: number): number;
  /** Tells what goes on. */
  say(text: string): void;
  /** Notes what was measured for a pledge of the suite. */
  keep(id: string, finding: Finding): void;
  /** Whether any of these pledges is asked for. */
  wants(...ids: readonly string[]): boolean;
  /** A running installation, started on first use and shared by the suites. */
  world(): Promise<World>;
  /** Whether the slow measurement of a first start is asked for. */
  readonly first: boolean;
};

/** Pledges that are measured together. */
export type Suite = {
  name: string;
  pledges: readonly Pledge[];
  /** Why this machine or user cannot measure them, or `undefined`; then the suite is left out and says so. */
  lacks?(): string | undefined;
  run(context: Context): Promise<void>;
};
