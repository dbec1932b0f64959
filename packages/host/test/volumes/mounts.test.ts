import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import {
  decodeVolumeMessage,
  encodeVolumeMessage,
  newSandboxId,
  type VolumeAnswer,
  type VolumeCall,
  type VolumeRequest,
} from "@wrenn/contract";
import { FakeHost, spec, until } from "../support/host.ts";

let host: FakeHost;
beforeAll(async () => {
  host = await FakeHost.start();
  await host.volumes.create("vol_a");
});
afterAll(() => host[Symbol.asyncDispose]());
beforeEach(() => {
  guests.length = 0;
  host.world.mount = (hello, socket) => {
    guests.push({ hello: JSON.parse(hello), socket });
    return JSON.stringify({ ready: true });
  };
});

/** What guests were told to mount, and the connections on which they may ask. */
const guests: { hello: unknown; socket: Bun.ServerWebSocket<undefined> }[] = [];
const mounts = [{ volume: "vol_a", path: "/mnt/a" }];
const create = () => host.sandboxes.create(newSandboxId(), 1, spec({ mounts }));

test("a sandbox is handed out when its guest has mounted its volumes; one without volumes is not asked", async () => {
  await host.sandboxes.create(newSandboxId(), 1, spec());
  expect(guests).toEqual([]);
  const { state } = await create();
  expect(state).toBe("running");
  expect(guests.map(({ hello }) => hello)).toEqual([{ mounts: [{ path: "/mnt/a", owned: process.getuid?.() === 0 }] }]);
});

test("a mount that fails fails the creation, which says why and leaves nothing", async () => {
  const before = await host.leftovers();
  host.world.mount = () => JSON.stringify({ failure: "mount failed: ENODEV" });
  await expect(create()).rejects.toThrow("the volumes could not be mounted: mount failed: ENODEV");
  expect(await host.leftovers()).toEqual(before);
});

test("a pause, a fork and a killed host agent: each machine is connected again, with the same volumes", async () => {
  const { id } = await create();
  await host.sandboxes.pause(id);
  await host.sandboxes.resume(id, 2);
  expect(guests).toHaveLength(2);
  const { id: snapshot } = await host.sandboxes.checkpoint(id);
  await host.sandboxes.create(newSandboxId(), 1, spec({ mounts, snapshot }));
  expect(guests).toHaveLength(3);
  await host.restart();
  await until("both guests are connected again", () => guests.length >= 5);
  guests.at(-1)!.socket.close();
  await until("a broken connection is opened again", () => guests.length >= 6);
});

test("a volume that was removed answers its guests, and keeps no sandbox from starting", async () => {
  await host.volumes.create("vol_gone");
  const gone = [{ volume: "vol_gone", path: "/mnt/gone" }];
  const { id } = await host.sandboxes.create(newSandboxId(), 1, spec({ mounts: gone }));
  await host.sandboxes.pause(id);
  await host.volumes.remove("vol_gone");
  await host.sandboxes.resume(id, 2);
  const answers: VolumeAnswer[] = [];
  const { socket } = guests.at(-1)!;
  const call: VolumeCall = { op: "stat", path: "" };
  host.world.mount = () => "";
  host.world.heard = (frame) => void answers.push(decodeVolumeMessage<VolumeAnswer>(frame).head);
  const request: VolumeRequest = { ...call, id: 1, mount: "/mnt/gone" };
  socket.send(encodeVolumeMessage(request));
  await until("it is answered", () => answers.length === 1);
  expect(answers).toEqual([{ id: 1, errno: 116 }]);
  expect(existsSync(`${host.volumes.root}/vol_gone`)).toBe(false);
});
