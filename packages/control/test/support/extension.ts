import type { Extension } from "../../src/edges/extension.ts";

/** What the worker of {@link sample} did. */
export const seen: string[] = [];

/** An extension with all three parts. */
const sample: Extension = {
  name: "sample",
  async middleware(c, next) {
    if (c.req.header("x-sample") === "refuse") return c.json({ error: { code: "forbidden", message: "No." } }, 403);
    await next();
  },
  routes({ app, endpoint, services, z }) {
    endpoint(
      app,
      {
        ...{ method: "get", path: "/v1/sample", access: "person", status: 200, summary: "What the team has." },
        answer: z.object({ sandboxes: z.number() }),
      },
      async ({ caller }) => ({ sandboxes: (await services.quotas.state(caller.team)).used.sandboxes }),
    );
  },
  worker() {
    seen.push("started");
    return {
      async [Symbol.asyncDispose]() {
        seen.push("stopped");
      },
    };
  },
};

export default sample;
