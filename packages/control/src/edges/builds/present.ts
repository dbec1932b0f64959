import type { rest } from "@wrenn/contract";
import type { Shown } from "../../services/builds/templates.ts";
import type { BuildRow, LogRow } from "../../store/schema/index.ts";

/** A build as the REST API shows it. */
export function build(row: BuildRow, template: string): rest.Build {
  return {
    id: row.id,
    template,
    status: row.status,
    current_step: row.currentStep,
    total_steps: row.totalSteps,
    tags: row.tags,
    vcpus: row.vcpus,
    memory_mb: row.memoryMib,
    size_bytes: row.sizeBytes,
    ...(row.error && { error: row.error }),
    from: row.provenance,
    by: row.actor.name,
    default_user: row.defaults.user,
    default_workdir: row.defaults.workdir,
    default_env: row.defaults.env,
    created_at: row.createdAt.toISOString(),
    ...(row.startedAt && { started_at: row.startedAt.toISOString() }),
    ...(row.completedAt && { completed_at: row.completedAt.toISOString() }),
  };
}

/** A line of a log as the REST API shows it. */
export const logLine = ({ seq, at, step, stream, message }: LogRow): rest.BuildLogLine => ({
  ...{ seq, at: at.toISOString(), step, stream, message },
});

/** A template as the REST API shows it. */
export const builtTemplate = ({ template, tags, current, isOwn }: Shown): rest.BuiltTemplate => ({
  id: template.id,
  name: template.name,
  platform: template.platform,
  own: isOwn,
  tags: tags.map(({ tag, buildId, createdAt }) => ({ tag, build: buildId, created_at: createdAt.toISOString() })),
  ...(current && { current: build(current, template.name) }),
  created_at: template.createdAt.toISOString(),
});
