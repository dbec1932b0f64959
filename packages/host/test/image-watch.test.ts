import { expect, test } from "bun:test";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { watchImages } from "../src/image-watch.ts";
import { quiet } from "./support/host.ts";

test("an image that is published while the agent runs is frozen without being asked for", async () => {
  const dir = await mkdtemp(`${tmpdir()}/wrenn-images-`);
  let calls = 0;
  const again = Promise.withResolvers<void>();
  const watched = await watchImages(dir, async () => void (++calls === 2 && again.resolve()), quiet);
  expect(calls).toBe(1);
  await mkdir(`${dir}/images/.new.1`);
  await rename(`${dir}/images/.new.1`, `${dir}/images/code-interpreter`);
  await again.promise;
  watched.close();
  await watched.settled();
  await rm(dir, { recursive: true });
});
