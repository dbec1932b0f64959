import { headers, version } from "@wrenn/contract";
import style from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import bundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import { stringify } from "yaml";
import type { App } from "./endpoint.ts";
import { exemplify, plainPatterns, registerErrorExamples } from "./examples.ts";

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Wrenn API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;
const script = `SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", validatorUrl: null, persistAuthorization: false });\n`;

/** Nothing from elsewhere and no script in the page; Swagger UI sets `style` attributes and draws its icons from data URLs. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const info = {
  openapi: "3.1.0",
  info: {
    title: "Wrenn",
    version,
    description:
      "Sandboxes for AI agents. Every error is `{error: {code, message, remedy?, details?, request_id}}`; a program decides by `code`.\n\n" +
      "WebSockets (JSON text frames): `/v1/capsules/{id}/exec/stream`, `/v1/capsules/{id}/pty`, " +
      "`/v1/capsules/{id}/processes/{selector}/stream`. `/v1/capsules/{id}/agent/{path}` forwards any method to the guest agent.",
    license: { name: "Apache-2.0", identifier: "Apache-2.0" },
  },
};

/** `/openapi.json`, `/openapi.yaml` and `/docs`, of all routes registered before. */
export function docsRoutes(app: App): void {
  app.openAPIRegistry.registerComponent("securitySchemes", headers.apiKey, {
    type: "apiKey",
    in: "header",
    name: headers.apiKey,
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "session", { type: "http", scheme: "bearer" });
  registerErrorExamples(app.openAPIRegistry);
  const { json, yaml } = documents(app);
  app.get("/openapi.json", (c) => c.body(json(), 200, { "content-type": "application/json" }));
  app.get("/openapi.yaml", (c) => c.body(yaml(), 200, { "content-type": "application/yaml" }));
  const guarded = {
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
  };
  app.get("/docs", (c) => c.body(page, 200, { "content-type": "text/html; charset=utf-8", ...guarded }));
  app.get("/docs/start.js", (c) => c.body(script, 200, { "content-type": "text/javascript", ...guarded }));
  const asset = (path: string, type: string) =>
    new Response(Bun.file(path), { headers: { "content-type": type, ...guarded } });
  app.get("/docs/swagger-ui.css", () => asset(style, "text/css"));
  app.get("/docs/swagger-ui-bundle.js", () => asset(bundle, "text/javascript"));
}

/**
 * The document in both notations, written when it is asked for: few servers are, and it would take 20 MB and a third of a
 * second of every start.
 */
function documents(app: App): { json: () => string; yaml: () => string } {
  const json = once(() => {
    const document = app.getOpenAPI31Document(info);
    plainPatterns(document);
    exemplify(document);
    return JSON.stringify(document);
  });
  return { json, yaml: once(() => stringify(JSON.parse(json()), { aliasDuplicateObjects: false })) };
}

function once(make: () => string): () => string {
  let made: string | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
