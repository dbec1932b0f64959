import { createHash, timingSafeEqual } from "node:crypto";
import { WrennError } from "@wrenn/contract";
import type { Metrics } from "../metrics.ts";
import { type App, describe } from "./endpoint.ts";

/** `/metrics`, for the operator alone: it tells about every team. Without a token it is closed. */
export function metricRoutes(app: App, metrics: Metrics, token: string | undefined): void {
  describe(app, {
    methods: ["get"],
    path: "/metrics",
    summary: "Prometheus metrics, with `Authorization: Bearer` and the operator's WRENN_METRICS_TOKEN.",
    status: 200,
    answer: "text/plain",
    codes: ["unauthorized", "not_found"],
  });
  app.get("/metrics", async (c) => {
    if (token === undefined)
      throw new WrennError("not_found", "Metrics are not served.", {
        remedy: "Start wrenn-cp with WRENN_METRICS_TOKEN set to a secret, and give it to the scraper.",
      });
    if (!same(c.req.header("authorization") ?? "", `Bearer ${token}`))
      throw new WrennError("unauthorized", "The metrics token is missing or wrong.", {
        remedy: "Send `Authorization: Bearer` with the WRENN_METRICS_TOKEN of wrenn-cp.",
      });
    const { type, text } = await metrics.text();
    return c.body(text, 200, { "content-type": type });
  });
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
const same = (given: string, wanted: string): boolean => timingSafeEqual(digest(given), digest(wanted));
