import type { Suite } from "../context.ts";
import { envdFiles } from "./envd-files.ts";
import { envdLatency } from "./envd-latency.ts";
import { envdMemory } from "./envd-memory.ts";
import { envdStdout } from "./envd-stdout.ts";
import { files } from "./files.ts";
import { life } from "./life.ts";
import { rtt } from "./rtt.ts";
import { tti } from "./tti.ts";
import { up } from "./up.ts";

/** Every suite, in the order they run. The idle sandboxes of `life` would disturb others, and `up` ends what runs. */
export const suites: readonly Suite[] = [
  ...[tti, rtt, files],
  ...[envdLatency, envdFiles, envdStdout, envdMemory],
  ...[life, up],
];
