import { WrennError } from "@wrenn/contract";
import type { ReservedSQL, SQL } from "bun";
import init from "../../migrations/0001_init.sql" with { type: "text" };
import snapshots from "../../migrations/0002_snapshots.sql" with { type: "text" };
import ports from "../../migrations/0003_ports.sql" with { type: "text" };
import events from "../../migrations/0004_events.sql" with { type: "text" };
import idempotency from "../../migrations/0005_idempotency.sql" with { type: "text" };
import people from "../../migrations/0010_people.sql" with { type: "text" };
import audit from "../../migrations/0011_audit.sql" with { type: "text" };
import quotas from "../../migrations/0012_quotas.sql" with { type: "text" };
import links from "../../migrations/0018_links.sql" with { type: "text" };
import hosts from "../../migrations/0020_hosts.sql" with { type: "text" };
import fleetTrust from "../../migrations/0021_fleet_trust.sql" with { type: "text" };
import outbox from "../../migrations/0022_events.sql" with { type: "text" };
import moves from "../../migrations/0023_moves.sql" with { type: "text" };
import replicas from "../../migrations/0024_replicas.sql" with { type: "text" };
import batches from "../../migrations/0025_batches.sql" with { type: "text" };
import deadlines from "../../migrations/0030_deadlines.sql" with { type: "text" };
import secrets from "../../migrations/0033_secrets.sql" with { type: "text" };
import diskOnly from "../../migrations/0034_disk_only.sql" with { type: "text" };
import volumes from "../../migrations/0035_volumes.sql" with { type: "text" };
import network from "../../migrations/0036_network.sql" with { type: "text" };
import mounts from "../../migrations/0037_mounts.sql" with { type: "text" };
import templates from "../../migrations/0040_templates.sql" with { type: "text" };
import buildSecrets from "../../migrations/0041_build_secrets.sql" with { type: "text" };
import names from "../../migrations/0050_names.sql" with { type: "text" };
import unsettled from "../../migrations/0051_unsettled.sql" with { type: "text" };
import withoutPeople from "../../migrations/down/0010_people.sql" with { type: "text" };
import withoutAudit from "../../migrations/down/0011_audit.sql" with { type: "text" };
import withoutQuotas from "../../migrations/down/0012_quotas.sql" with { type: "text" };
import withoutLinks from "../../migrations/down/0018_links.sql" with { type: "text" };
import withoutHosts from "../../migrations/down/0020_hosts.sql" with { type: "text" };
import withoutFleetTrust from "../../migrations/down/0021_fleet_trust.sql" with { type: "text" };
import withoutOutbox from "../../migrations/down/0022_events.sql" with { type: "text" };
import withoutMoves from "../../migrations/down/0023_moves.sql" with { type: "text" };
import withoutReplicas from "../../migrations/down/0024_replicas.sql" with { type: "text" };
import withoutBatches from "../../migrations/down/0025_batches.sql" with { type: "text" };
import withoutSecrets from "../../migrations/down/0033_secrets.sql" with { type: "text" };
import withoutDiskOnly from "../../migrations/down/0034_disk_only.sql" with { type: "text" };
import withoutVolumes from "../../migrations/down/0035_volumes.sql" with { type: "text" };
import withoutNetwork from "../../migrations/down/0036_network.sql" with { type: "text" };
import withoutMounts from "../../migrations/down/0037_mounts.sql" with { type: "text" };
import withoutNames from "../../migrations/down/0050_names.sql" with { type: "text" };
import withoutUnsettled from "../../migrations/down/0051_unsettled.sql" with { type: "text" };

/** Every migration, in order; a schema has those whose names it holds. Text imports are part of a compiled program. */
const migrations: readonly { name: string; text: string; down?: string }[] = [
  { name: "0001_init", text: init },
  { name: "0002_snapshots", text: snapshots },
  { name: "0003_ports", text: ports },
  { name: "0004_events", text: events },
  { name: "0005_idempotency", text: idempotency },
  { name: "0010_people", text: people, down: withoutPeople },
  { name: "0011_audit", text: audit, down: withoutAudit },
  { name: "0012_quotas", text: quotas, down: withoutQuotas },
  { name: "0018_links", text: links, down: withoutLinks },
  { name: "0020_hosts", text: hosts, down: withoutHosts },
  { name: "0021_fleet_trust", text: fleetTrust, down: withoutFleetTrust },
  { name: "0022_events", text: outbox, down: withoutOutbox },
  { name: "0023_moves", text: moves, down: withoutMoves },
  { name: "0024_replicas", text: replicas, down: withoutReplicas },
  { name: "0025_batches", text: batches, down: withoutBatches },
  { name: "0030_deadlines", text: deadlines },
  { name: "0033_secrets", text: secrets, down: withoutSecrets },
  { name: "0034_disk_only", text: diskOnly, down: withoutDiskOnly },
  { name: "0035_volumes", text: volumes, down: withoutVolumes },
  { name: "0036_network", text: network, down: withoutNetwork },
  { name: "0037_mounts", text: mounts, down: withoutMounts },
  { name: "0040_templates", text: templates },
  { name: "0041_build_secrets", text: buildSecrets },
  { name: "0050_names", text: names, down: withoutNames },
  { name: "0051_unsettled", text: unsettled, down: withoutUnsettled },
];

/** Any constant: all replicas of one database must use the same. */
const lockKey = 0x7772_656e;

/**
 * Applies what is missing, each migration in a transaction of its own; replicas that start together take turns.
 * Throws `conflict` when the database was written by a newer program.
 */
export function migrate(client: SQL): Promise<void> {
  return alone(client, async (connection) => {
    const rows = await applied(connection);
    const present = new Set(rows.map(({ name }) => name));
    let version = rows.at(-1)?.version ?? 0;
    for (const { name, text } of migrations) {
      if (present.has(name)) continue;
      version++;
      await connection.begin(async (transaction) => {
        await transaction.unsafe(text).simple();
        await transaction`insert into wrenn_migrations (version, name) values (${version}, ${name})`;
      });
    }
  });
}

/**
 * Undoes every migration whose number is higher than `to`, the last first, each in a transaction of its own, and answers
 * their names. Throws `conflict` before anything is undone when one of them cannot be.
 */
export function undo(client: SQL, to: number): Promise<string[]> {
  return alone(client, async (connection) => {
    const rows = (await applied(connection)).filter(({ name }) => numberOf(name) > to).reverse();
    const steps = rows.map(({ name }) => ({ name, down: migrations.find((known) => known.name === name)?.down }));
    const stuck = steps.find(({ down }) => down === undefined);
    if (stuck)
      throw new WrennError("conflict", `The migration ${stuck.name} cannot be undone.`, {
        remedy: "Restore a backup from before it with `wrenn-cp restore`, or choose a higher number.",
      });
    for (const { name, down } of steps)
      await connection.begin(async (transaction) => {
        await transaction.unsafe(down!).simple();
        await transaction`delete from wrenn_migrations where name = ${name}`;
      });
    return steps.map(({ name }) => name);
  });
}

/** The names of the migrations that a database has, in the order in which it got them. */
export async function migrationsOf(client: SQL): Promise<string[]> {
  return await alone(client, async (connection) => (await applied(connection)).map(({ name }) => name));
}

const numberOf = (name: string): number => Number(name.slice(0, 4));

/** Runs `work` while no other replica migrates. */
async function alone<T>(client: SQL, work: (connection: ReservedSQL) => Promise<T>): Promise<T> {
  const connection = await client.reserve();
  try {
    await connection`select pg_advisory_lock(${lockKey})`;
    try {
      return await work(connection);
    } finally {
      await connection`select pg_advisory_unlock(${lockKey})`;
    }
  } finally {
    connection.release();
  }
}

async function applied(connection: ReservedSQL): Promise<{ version: number; name: string }[]> {
  await connection`create table if not exists wrenn_migrations (
    version integer primary key, name text not null, applied_at timestamptz not null default now())`;
  const rows: { version: number; name: string }[] =
    await connection`select version, name from wrenn_migrations order by version`;
  const strange = rows.find(({ name }) => !migrations.some((known) => known.name === name));
  if (!strange) return rows;
  throw new WrennError(
    "conflict",
    `The database has the migration ${strange.name}, which this program does not know.`,
    {
      remedy: "Start a newer wrenn-cp, or restore the database from before the upgrade.",
    },
  );
}
