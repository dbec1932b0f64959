#!/usr/bin/env bun
import { run } from "./program.ts";

/** 128 and the number of SIGPIPE: what a shell reports of a program whose reader has gone. */
const readerGone = 141;

// A command that has something of its own to end first listens too, and then leaves in its own time.
process.stdout.on("error", () => {
  if (process.stdout.listenerCount("error") === 1) process.exit(readerGone);
});

process.exitCode = await run(process.argv.slice(2));
