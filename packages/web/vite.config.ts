import adapter from "@sveltejs/adapter-static";
import { sveltekit } from "@sveltejs/kit/vite";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vite";

/** The server that `make dev-frontend` works against. */
const server = process.env.WRENN_BASE_URL || "http://127.0.0.1:9725";
const out = process.env.WRENN_WEB_OUT || "build";

/** What the dashboard asks of the server; everything else is a page or a file of ours. */
const api = ["/v1", "/auth/oauth", "/health", "/docs", "/openapi.json", "/openapi.yaml"];

export default defineConfig({
  plugins: [
    tailwindcss(),
    sveltekit({
      adapter: adapter({ pages: out, assets: out, fallback: "index.html" }),
      // Named by what it is made of, so that the same sources give the same files.
      version: { name: "wrenn" },
    }),
  ],
  build: { chunkSizeWarningLimit: 1000, sourcemap: false },
  server: {
    port: 5173,
    strictPort: true,
    proxy: Object.fromEntries(api.map((path) => [path, { target: server, ws: true, changeOrigin: true }])),
  },
});
