import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, WrennError } from "@wrenn/contract";
import { start } from "../src/index.ts";
import { apiKey, metricsToken, Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());

const scrape = (authorization?: string, address = plane.address) =>
  fetch(`${address}/metrics`, { headers: { [headers.apiKey]: apiKey, ...(authorization && { authorization }) } });
const value = (text: string, series: string) =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? Number.NaN,
  );

describe("/metrics", () => {
  test("is closed to API keys and wrong tokens, and not there when the operator set none", async () => {
    for (const sent of [undefined, metricsToken, "Bearer wrong", `Bearer ${apiKey}`])
      expect((await scrape(sent)).status).toBe(401);
    const closed = await start({ ...plane.options, metricsToken: undefined });
    const answer = await scrape("Bearer undefined", closed.address);
    await closed.stop();
    expect([answer.status, WrennError.fromBody(await answer.json())?.remedy]).toEqual([
      404,
      expect.stringContaining("WRENN_METRICS_TOKEN"),
    ]);
  });

  test("counts requests by the route they matched, ports included, and sandboxes by state", async () => {
    const [running, paused] = [await plane.create(), await plane.create()];
    await plane.json(200, "POST", `/v1/capsules/${paused.id}/pause`);
    for (const id of [running.id, paused.id]) await plane.json(200, "GET", `/v1/capsules/${id}`);
    await plane.fetch("GET", "/v1/nothing/at/all");
    await fetch(plane.address, { headers: { host: `3000-${running.id}.localhost` } });
    const answer = await scrape(`Bearer ${metricsToken}`);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([
      200,
      expect.stringContaining("version=0.0.4"),
    ]);
    const text = await answer.text();
    const requests = (method: string, route: string, status: number) =>
      value(text, `wrenn_http_request_duration_seconds_count{method="${method}",route="${route}",status="${status}"}`);
    expect(requests("POST", "/v1/capsules", 201)).toBe(2);
    expect(requests("GET", "/v1/capsules/:id", 200)).toBe(2);
    expect(requests("GET", "none", 404)).toBe(1);
    expect(requests("GET", "port", 401)).toBe(1);
    expect(value(text, 'wrenn_sandboxes{state="running"}')).toBe(1);
    expect(value(text, 'wrenn_sandboxes{state="paused"}')).toBe(1);
    expect(value(text, 'wrenn_sandboxes{state="error"}')).toBe(0);
    expect(text).not.toContain(running.id);
  });
});
