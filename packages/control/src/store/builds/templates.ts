import { randomId } from "@wrenn/contract";
import { and, desc, eq, inArray, or, type SQL, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { type BuildRow, builds, type NewBuild, type TemplateRow, templates, templateTags } from "../schema/index.ts";

/** The tag that a name without one means; every successful build takes it. */
export const usualTag = "default";

/** A version that a name leads to. */
export type Version = { template: TemplateRow; build: BuildRow };
/** A tag, and the build it points at. */
export type TagRow = typeof templateTags.$inferSelect;

/** Queries about templates and their tags. */
export class TemplateStore {
  constructor(readonly db: Database) {}

  /** The team's template of this name, made when there is none. */
  async ensure(team: string, name: string): Promise<TemplateRow> {
    await this.db.insert(templates).values({ id: randomId(), teamId: team, name }).onConflictDoNothing();
    return (await this.own(team, name))!;
  }

  /** The template with this id, of any team. */
  async byId(id: string): Promise<TemplateRow | undefined> {
    return (await this.db.select().from(templates).where(eq(templates.id, id)))[0];
  }

  /** The team's template with this name or id. */
  async own(team: string, nameOrId: string): Promise<TemplateRow | undefined> {
    const is = or(eq(templates.name, nameOrId), eq(templates.id, nameOrId));
    const found = await this.db
      .select()
      .from(templates)
      .where(and(eq(templates.teamId, team), is));
    return found.find(({ name }) => name === nameOrId) ?? found[0];
  }

  /** The template of this name or id that the team may start from: its own, else the platform's. */
  async visible(team: string, nameOrId: string): Promise<TemplateRow | undefined> {
    return (await this.own(team, nameOrId)) ?? (await this.platform(nameOrId));
  }

  /** The platform's template with this name or id. */
  async platform(nameOrId: string): Promise<TemplateRow | undefined> {
    const is = or(eq(templates.name, nameOrId), eq(templates.id, nameOrId));
    return (
      await this.db
        .select()
        .from(templates)
        .where(and(is, eq(templates.platform, true)))
    )[0];
  }

  /** Any team's template with this name, whoever may see it. */
  async anyNamed(name: string): Promise<TemplateRow | undefined> {
    return (await this.db.select().from(templates).where(eq(templates.name, name)).limit(1))[0];
  }

  /** The templates that a team may start from, by name. */
  async list(team: string): Promise<TemplateRow[]> {
    const isVisible = or(eq(templates.teamId, team), eq(templates.platform, true));
    return await this.db.select().from(templates).where(isVisible).orderBy(templates.name);
  }

  /** The successful build that `tag` of a template points at; a build's id is a tag of its own. */
  async version(template: TemplateRow, tag: string): Promise<BuildRow | undefined> {
    const [tagged] = await this.db
      .select({ build: builds })
      .from(templateTags)
      .innerJoin(builds, eq(builds.id, templateTags.buildId))
      .where(and(eq(templateTags.templateId, template.id), eq(templateTags.tag, tag)));
    if (tagged) return tagged.build;
    const isIt = and(eq(builds.templateId, template.id), eq(builds.id, tag), eq(builds.status, "success"));
    return (await this.db.select().from(builds).where(isIt))[0];
  }

  /** The versions that the tag of each template without one points at, by template. */
  async current(rows: readonly TemplateRow[]): Promise<Map<string, BuildRow>> {
    if (rows.length === 0) return new Map();
    const ids = rows.map(({ id }) => id);
    const found = await this.db
      .select({ build: builds })
      .from(templateTags)
      .innerJoin(builds, eq(builds.id, templateTags.buildId))
      .where(and(inArray(templateTags.templateId, ids), eq(templateTags.tag, usualTag)));
    return new Map(found.map(({ build }) => [build.templateId, build]));
  }

  /** A template's tags, the newest first. */
  async tags(template: string): Promise<TagRow[]> {
    const { templateId, createdAt } = templateTags;
    return await this.db.select().from(templateTags).where(eq(templateId, template)).orderBy(desc(createdAt));
  }

  /** Points tags at a version. */
  async tag(build: BuildRow, tags: readonly string[]): Promise<void> {
    await pointAt(this.db, build, tags);
  }

  /**
   * Makes a build that `owner` holds a version, under its tags in the same breath. A tag that points at a later build
   * stays: whichever ends last, the later one wins. Nothing is written when the build is not the owner's any more.
   */
  async complete(id: string, owner: string, version: Partial<NewBuild>): Promise<void> {
    await this.db.transaction(async (transaction) => {
      const isHeld = and(eq(builds.id, id), eq(builds.leaseOwner, owner), eq(builds.status, "running"));
      const [row] = await transaction
        .update(builds)
        .set({ ...version, status: "success" })
        .where(isHeld)
        .returning();
      const isOlder = sql`(select number from builds where id = ${templateTags.buildId}) < ${row?.number}`;
      if (row) await pointAt(transaction, row, row.tags, isOlder);
    });
  }

  /** Removes tags; answers those there were. */
  async untag(template: string, tags: readonly string[]): Promise<string[]> {
    const isOne = and(eq(templateTags.templateId, template), inArray(templateTags.tag, [...tags]));
    const gone = await this.db.delete(templateTags).where(isOne).returning({ tag: templateTags.tag });
    return gone.map(({ tag }) => tag);
  }

  /** Makes a template everybody's, or the team's alone again. */
  async publish(id: string, platform: boolean): Promise<void> {
    await this.db.update(templates).set({ platform }).where(eq(templates.id, id));
  }

  /** Removes a template with its builds and tags. */
  async remove(id: string): Promise<void> {
    await this.db.delete(templates).where(eq(templates.id, id));
  }
}

type Writer = Pick<Database, "insert">;

async function pointAt(db: Writer, build: BuildRow, tags: readonly string[], onlyIf?: SQL): Promise<void> {
  const { templateId, id: buildId } = build;
  await db
    .insert(templateTags)
    .values(tags.map((tag) => ({ templateId, tag, buildId })))
    .onConflictDoUpdate({
      target: [templateTags.templateId, templateTags.tag],
      set: { buildId, createdAt: sql`now()` },
      ...(onlyIf && { setWhere: onlyIf }),
    });
}
