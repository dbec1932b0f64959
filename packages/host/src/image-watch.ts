import { watch } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Logger } from "pino";

/** An image is published under several names within seconds. */
const quietMs = 2_000;

/** A folder that is watched. */
export type ImageWatch = {
  /** Notices nothing any more. */
  close(): void;
  /** Resolves when the last call has ended. */
  settled(): Promise<void>;
};

/**
 * Calls `freeze` now and whenever images are built or replaced, one call at a time, so that the first sandbox of a new one
 * need not wait for its freeze.
 */
export async function watchImages(dir: string, freeze: () => Promise<void>, log: Logger): Promise<ImageWatch> {
  const folder = `${dir}/images`;
  await mkdir(folder, { recursive: true });
  let timer: Timer | undefined;
  let work = freeze();
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      work = work.then(freeze);
    }, quietMs);
  };
  const watcher = watch(folder, soon).on("error", (error) => log.warn({ error }, "new images are not noticed"));
  return {
    close() {
      watcher.close();
      clearTimeout(timer);
    },
    settled: () => work,
  };
}
