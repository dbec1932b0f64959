import type { SQL } from "bun";

/** What ran at once. */
export type Level = { running: number; vcpus: number; memoryMib: number };
/** Minutes of a day (UTC), of processors and of MiB of memory. */
export type Day = { date: string; cpuMinutes: number; memoryMinutes: number };

/** Queries about when sandboxes ran: exact to the millisecond, since every start and end is written down when it happens. */
export class UsageStore {
  constructor(readonly client: SQL) {}

  /** What runs now. */
  async now(team: string): Promise<Level> {
    const [row] = await this.client`select count(*)::int as running, coalesce(sum(vcpus), 0)::int as vcpus,
      coalesce(sum(memory_mib), 0)::int as memory from usage_spans where team_id = ${team} and ended_at is null`;
    return { running: row.running, vcpus: row.vcpus, memoryMib: row.memory };
  }

  /** The most that ran at once in each of `count` buckets of `seconds` that end now, oldest first. */
  async series(team: string, seconds: number, count: number): Promise<(Level & { at: Date })[]> {
    const rows: { at: Date; running: number; vcpus: number; memory: number }[] = await this.client`
      with edge as (
        select to_timestamp(ceil(extract(epoch from now()) / ${seconds}) * ${seconds}) - ${seconds * count} * interval '1 s' as start
      ), steps as (
        select greatest(s.started_at, edge.start) as at, 1 as one, vcpus, memory_mib from usage_spans s, edge
          where team_id = ${team} and (ended_at is null or ended_at > edge.start)
        union all
        select ended_at, -1, -vcpus, -memory_mib from usage_spans, edge where team_id = ${team} and ended_at > edge.start
        union all
        select edge.start + n * ${seconds} * interval '1 s', 0, 0, 0 from edge, generate_series(0, ${count - 1}::int) as n
      ), levels as (
        select at, sum(one) over w as running, sum(vcpus) over w as vcpus, sum(memory_mib) over w as memory
          from steps window w as (order by at, one range unbounded preceding)
      )
      select edge.start + floor(extract(epoch from at - edge.start) / ${seconds}) * ${seconds} * interval '1 s' as at,
        max(running)::int as running, max(vcpus)::int as vcpus, max(memory)::int as memory
      from levels, edge group by 1 order by 1`;
    return rows.map(({ at, running, vcpus, memory }) => ({ at, running, vcpus, memoryMib: memory }));
  }

  /** Minutes of each day from `from` to `to` (both included). */
  async days(team: string, from: string, to: string): Promise<Day[]> {
    const rows: { date: string; cpu: number; memory: number }[] = await this.client`
      with days as (
        select day::date as day, (day::date)::timestamp at time zone 'utc' as start,
          (day::date + 1)::timestamp at time zone 'utc' as stop
        from generate_series(${from}::date, ${to}::date, interval '1 day') as day
      )
      select to_char(day, 'YYYY-MM-DD') as date,
        coalesce(sum(vcpus * secs), 0)::float8 / 60 as cpu, coalesce(sum(memory_mib * secs), 0)::float8 / 60 as memory
      from days left join lateral (
        select vcpus, memory_mib,
          greatest(0, extract(epoch from least(coalesce(ended_at, now()), stop) - greatest(started_at, start))) as secs
        from usage_spans where team_id = ${team} and started_at < stop and (ended_at is null or ended_at > start)
      ) as span on true group by day order by day`;
    return rows.map(({ date, cpu, memory }) => ({ date, cpuMinutes: cpu, memoryMinutes: memory }));
  }
}
