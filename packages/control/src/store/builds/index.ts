import type { Database } from "../database.ts";
import { BuildCache } from "./cache.ts";
import { BuildFiles } from "./files.ts";
import { BuildStore } from "./queue.ts";
import { TemplateStore } from "./templates.ts";

/** The queries about templates and their builds. */
export const openBuildStores = (db: Database) => ({
  templates: new TemplateStore(db),
  queue: new BuildStore(db),
  cache: new BuildCache(db),
  files: new BuildFiles(db),
});
