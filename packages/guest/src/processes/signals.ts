import { constants } from "node:os";

/** How a process ended, in the words of the wire. */
export type End = { exitCode: number; exited: boolean; status: string; error: string | undefined };

/** Texts of Go's `syscall.Signal`, which clients of both older agents show to people. */
const texts: Readonly<Record<string, string>> = {
  SIGHUP: "hangup",
  SIGINT: "interrupt",
  SIGQUIT: "quit",
  SIGILL: "illegal instruction",
  SIGTRAP: "trace/breakpoint trap",
  SIGABRT: "aborted",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGKILL: "killed",
  SIGUSR1: "user defined signal 1",
  SIGSEGV: "segmentation fault",
  SIGUSR2: "user defined signal 2",
  SIGPIPE: "broken pipe",
  SIGALRM: "alarm clock",
  SIGTERM: "terminated",
};

const numbers: Readonly<Record<string, number>> = constants.signals;

/** The end of a process that left with `code`, or was ended by `signal` (its name, or its number when it has none). */
export function describeEnd(code: number | null, signal: string | number | null): End {
  if (signal !== null) {
    const name = typeof signal === "number" ? undefined : signal;
    const text = name ? (texts[name] ?? `signal ${numbers[name]}`) : `signal ${signal}`;
    const status = `signal: ${text}`;
    return { exitCode: -1, exited: false, status, error: status };
  }
  const exitCode = code ?? -1;
  const status = `exit status ${exitCode}`;
  return { exitCode, exited: true, status, error: exitCode === 0 ? undefined : status };
}
