import { afterAll, beforeAll, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { byKey, call, Human } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start({ keepAliveMs: 1_000 });
});
afterAll(() => plane[Symbol.asyncDispose]());

type Word = { lane: number; status?: number; type?: string; text?: string; end?: string };

/** A window of the dashboard: its one WebSocket, and what it was told of each lane. */
class Page {
  readonly words: Word[] = [];
  isClosed = false;
  #wake = () => {};

  private constructor(readonly socket: WebSocket) {
    socket.onmessage = ({ data }) => {
      this.words.push(JSON.parse(String(data)) as Word);
      this.#wake();
    };
    socket.onclose = () => {
      this.isClosed = true;
      this.#wake();
    };
  }

  static async open(cookie: string, origin = plane.address): Promise<Page> {
    const url = `${plane.address.replace("http", "ws")}/v1/lanes`;
    const page = new Page(new WebSocket(url, { headers: { cookie, origin } } as never));
    await page.until(() => page.isClosed || page.socket.readyState === WebSocket.OPEN, page.socket);
    return page;
  }

  say(wish: object): void {
    this.socket.send(JSON.stringify(wish));
  }

  /** All text of a lane. */
  text(lane: number): string {
    return this.words.flatMap((word) => (word.lane === lane && word.text ? [word.text] : [])).join("");
  }

  async until(isSo: () => boolean, opening?: WebSocket): Promise<void> {
    while (!isSo())
      await new Promise<void>((wake) => {
        this.#wake = wake;
        if (opening) opening.onopen = () => wake();
      });
  }
}

/** The cookie of a browser that a link signed in. */
async function cookie(): Promise<string> {
  const { body } = await byKey<rest.SignInLink>(plane, apiKey, "POST", "/v1/auth/links");
  const token = new URLSearchParams(new URL(body.url).hash.slice(1)).get("once")!;
  const opened = await call(plane, "POST", "/v1/auth/link", { token }, { [headers.csrf]: "1" });
  return opened.headers.get("set-cookie")!.split(";")[0]!;
}

test("a window follows several things over one WebSocket, each answered as over HTTP, and leaves each by itself", async () => {
  const page = await Page.open(await cookie());
  page.say({ open: 0, path: "/v1/events/stream?changes=team" });
  page.say({ open: 1, path: "/v1/events/stream" });
  page.say({ open: 2, path: "/v1/capsules/cl-0000000000000000000000000/logs?follow=true" });
  await page.until(() => [0, 1].every((lane) => page.text(lane).includes('"connected"')));
  await page.until(() => page.words.some(({ lane, end }) => lane === 2 && end !== undefined));
  expect(page.words.find(({ lane }) => lane === 0)).toEqual({ lane: 0, status: 200, type: "text/event-stream" });
  const refused = page.words.filter(({ lane }) => lane === 2);
  expect(refused.map(({ status, end }) => status ?? end)).toEqual([404, undefined as never, "whole"]);
  expect(JSON.parse(page.text(2)).error.code).toBe("not_found");

  page.say({ close: 1 });
  await Bun.sleep(50);
  const { id } = await plane.create();
  await page.until(() => page.text(0).includes(id));
  await page.until(() => page.text(0).split(": ").length > 2); // a sign of life after it
  expect(page.text(1)).not.toContain(id);
  page.socket.close();
});

test("no other site, nobody, and no nonsense gets a lane; whoever is signed out is told nothing more", async () => {
  const own = await cookie();
  expect((await Page.open(own, "https://elsewhere.example")).isClosed).toBe(true);
  expect((await Page.open("")).isClosed).toBe(true);
  for (const wish of [{ open: 0, path: "/metrics" }, { open: "x" }, { open: 1 }, []]) {
    const page = await Page.open(own);
    page.say(wish);
    await page.until(() => page.isClosed);
    expect(page.words).toEqual([]);
  }
  const ann = await Human.join(plane, "lanes");
  const session = `wrenn_session=${ann.auth.token}`;
  const page = await Page.open(session);
  page.say({ open: 0, path: "/v1/events/stream" });
  await page.until(() => page.text(0).includes('"connected"'));
  await call(plane, "POST", "/v1/auth/logout", undefined, { cookie: session, [headers.csrf]: "1" });
  await page.until(() => page.words.some(({ end }) => end !== undefined));
  page.say({ open: 1, path: "/v1/events/stream" });
  await page.until(() => page.words.some(({ lane, end }) => lane === 1 && end !== undefined));
  expect(page.words.find(({ lane }) => lane === 1)?.status).toBe(401);
  page.socket.close();
});
