import pino from "pino";

/** A logger of JSON lines on stderr. */
export type Log = pino.Logger;

/** Opens the log; `level` is one of pino's, `silent` included. */
export const openLog = (level: string): Log =>
  pino({ level, base: { program: "wrenn-cp" } }, pino.destination({ dest: 2, sync: true }));
