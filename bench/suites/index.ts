import type { Suite } from "../context.ts";
import { builds } from "./builds.ts";
import { chain } from "./chain.ts";
import { controlRead } from "./control-read.ts";
import { crowd } from "./crowd.ts";
import { dashboard } from "./dashboard.ts";
import { envdFiles } from "./envd-files.ts";
import { envdLatency } from "./envd-latency.ts";
import { envdMemory } from "./envd-memory.ts";
import { envdStdout } from "./envd-stdout.ts";
import { files } from "./files.ts";
import { fleet } from "./fleet.ts";
import { forks } from "./forks.ts";
import { interpreter } from "./interpreter.ts";
import { life } from "./life.ts";
import { pauses } from "./pauses.ts";
import { rtt } from "./rtt.ts";
import { servers } from "./servers.ts";
import { tti } from "./tti.ts";
import { up } from "./up.ts";
import { webTerminal } from "./web-terminal.ts";

/** Every suite, in the order they run. The idle sandboxes of `life` would disturb others, and `up` ends what runs. */
export const suites: readonly Suite[] = [
  controlRead,
  fleet,
  ...[servers, tti, forks, pauses, rtt, chain, files],
  ...[envdLatency, envdFiles, envdStdout, envdMemory],
  ...[builds, interpreter],
  ...[dashboard, webTerminal, life, crowd, up],
];
