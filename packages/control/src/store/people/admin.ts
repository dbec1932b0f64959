import { type rest, type SandboxId, states } from "@wrenn/contract";
import { eq, sql } from "drizzle-orm";
import { isOver } from "../phase.ts";
import { settings, type UserRow } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** Rows of a page (Wrenn REST API 13). */
export const perPage = 100;
const settingName = "people";
/** States of sandboxes that count as active. */
const active = states.filter((state) => !isOver({ state }));

type Row = Record<string, unknown>;
/** What is kept of the settings; what was never set is absent. */
export type KeptSettings = {
  signup?: rest.Settings["signup"] | undefined;
  features?: Record<string, boolean> | undefined;
};
/** A sandbox of somebody's, with its team. */
export type Owned = { id: SandboxId; team: string };

/** Queries over all teams and accounts, for administrators. */
export class AdminStore {
  constructor(readonly db: Queries) {}

  /** A page of teams, newest first, and how many there are. */
  async teams(page: number): Promise<{ rows: rest.AdminTeam[]; total: number }> {
    const rows = await this.#all(sql`select t.id, t.name, t.slug, t.is_byoc, t.created_at, t.deleted_at,
        (select count(*) from memberships m join users u on u.id = m.user_id where m.team_id = t.id and u.status <> 'deleted') as members,
        coalesce(o.name, '') as owner_name, coalesce(o.email, '') as owner_email,
        (select count(*) from sandboxes s where s.team_id = t.id and s.state in (${sql.join(
          active.map((state) => sql`${state}`),
          sql`, `,
        )})) as sandboxes,
        (select count(*) from channels c where c.team_id = t.id) as channels,
        count(*) over () as total
      from teams t
      left join lateral (select u.name, u.email from memberships m join users u on u.id = m.user_id
        where m.team_id = t.id and m.role = 'owner' limit 1) o on true
      order by t.created_at desc, t.id desc limit ${perPage} offset ${(page - 1) * perPage}`);
    return { rows: rows.map(adminTeam), total: Number(rows[0]?.total ?? (await this.#count("teams"))) };
  }

  /** A page of accounts, newest first, and how many there are. */
  async users(page: number): Promise<{ rows: rest.AdminUser[]; total: number }> {
    const rows = await this.#all(sql`select u.id, u.email, u.name, u.is_admin, u.status, u.created_at,
        u.totp_secret is not null as mfa,
        (select count(*) from memberships m where m.user_id = u.id) as joined,
        (select count(*) from memberships m where m.user_id = u.id and m.role = 'owner') as owned,
        count(*) over () as total
      from users u order by u.created_at desc, u.id desc limit ${perPage} offset ${(page - 1) * perPage}`);
    return { rows: rows.map(adminUser), total: Number(rows[0]?.total ?? (await this.#count("users"))) };
  }

  /** Built templates and snapshots of all teams, newest first, at most `limit`. */
  async templates(limit: number): Promise<rest.AdminTemplate[]> {
    const rows = await this.#all(sql`select * from (
        select t.name, 'base' as type, b.vcpus, b.memory_mib, b.size_bytes, t.team_id, t.platform, t.created_at
        from templates t left join lateral (select b.vcpus, b.memory_mib, b.size_bytes from builds b
          where b.template_id = t.id and b.status = 'success' order by b.number desc limit 1) b on true
        union all
        select s.name, 'snapshot', s.vcpus, s.memory_mib, s.size_bytes, s.team_id, false, s.created_at
        from snapshots s where not s.of_build
      ) as every_one order by created_at desc, name limit ${limit}`);
    return rows.map((row) => ({
      name: String(row.name),
      type: row.type as "base" | "snapshot",
      vcpus: Number(row.vcpus ?? 0),
      memory_mb: Number(row.memory_mib ?? 0),
      size_bytes: Number(row.size_bytes ?? 0),
      team_id: String(row.team_id),
      platform: row.platform === true,
      created_at: iso(row.created_at),
    }));
  }

  /** Lets a team's sandboxes run on its own hosts only; `false` when there is no such team. */
  async setByoc(team: string): Promise<boolean> {
    const rows = await this.#all(
      sql`update teams set is_byoc = true where id = ${team} and deleted_at is null returning id`,
    );
    return rows.length === 1;
  }

  /** The living sandboxes of the teams that somebody owns. */
  async sandboxesOf(owner: string): Promise<Owned[]> {
    const rows = await this.#all(sql`select s.id, s.team_id from sandboxes s join memberships m on m.team_id = s.team_id
      where m.user_id = ${owner} and m.role = 'owner' and s.state <> 'stopped'`);
    return rows.map((row) => ({ id: String(row.id) as SandboxId, team: String(row.team_id) }));
  }

  /** Accounts that were closed so long ago. */
  async closedBefore(days: number): Promise<Pick<UserRow, "id" | "email" | "name">[]> {
    const rows = await this.#all(sql`select id, email, name from users
      where status = 'deleted' and deleted_at < now() - ${days} * interval '1 day' limit 100`);
    return rows.map((row) => ({ id: String(row.id), email: String(row.email), name: String(row.name) }));
  }

  /** Erases an account, and its name from the audit log; the chain holds without it. */
  async erase(user: string): Promise<void> {
    await this.db.execute(sql`update audit_logs set actor_name = '' where actor_id = ${user}`);
    await this.db.execute(sql`delete from users where id = ${user}`);
  }

  /** The settings that were set. */
  async settings(): Promise<KeptSettings> {
    const [row] = await this.db.select().from(settings).where(eq(settings.name, settingName));
    return row ? (JSON.parse(row.value) as KeptSettings) : {};
  }

  /** Changes settings; those that are not named stay. */
  async set(change: KeptSettings): Promise<void> {
    const value = JSON.stringify({ ...(await this.settings()), ...change });
    await this.db
      .insert(settings)
      .values({ name: settingName, value })
      .onConflictDoUpdate({ target: settings.name, set: { value } });
  }

  async #count(table: "teams" | "users"): Promise<number> {
    const [row] = await this.#all(sql`select count(*) as count from ${sql.identifier(table)}`);
    return Number(row!.count);
  }

  async #all(query: ReturnType<typeof sql>): Promise<Row[]> {
    return (await this.db.execute(query)) as unknown as Row[];
  }
}

const iso = (value: unknown): string => new Date(value as string | Date).toISOString();

const adminTeam = (row: Row): rest.AdminTeam => ({
  id: String(row.id),
  name: String(row.name),
  slug: String(row.slug),
  is_byoc: row.is_byoc === true,
  created_at: iso(row.created_at),
  ...(row.deleted_at !== null && { deleted_at: iso(row.deleted_at) }),
  member_count: Number(row.members),
  owner_name: String(row.owner_name),
  owner_email: String(row.owner_email),
  active_sandbox_count: Number(row.sandboxes),
  channel_count: Number(row.channels),
});

const adminUser = (row: Row): rest.AdminUser => ({
  id: String(row.id),
  email: String(row.email),
  name: String(row.name),
  is_admin: row.is_admin === true,
  status: row.status as rest.AdminUser["status"],
  mfa: row.mfa === true,
  created_at: iso(row.created_at),
  teams_joined: Number(row.joined),
  teams_owned: Number(row.owned),
});
