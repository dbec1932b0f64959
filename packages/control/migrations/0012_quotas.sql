-- How much a team may have; null is no limit. The row of team '*' is for teams without one of their own.
create table quotas (
  team_id text primary key,
  sandboxes integer,
  vcpus integer,
  memory_mb bigint,
  disk_mb bigint,
  creates_per_sec double precision,
  max_timeout_sec integer
);

create index sandboxes_living on sandboxes (team_id) where state not in ('stopped', 'error');

-- What a team has now: all sandboxes with their disks, and the processors and memory of those that are not paused. Sizes
-- that the host has not told yet count as its defaults.
create function wrenn_team_use(team text, but text, out sandboxes bigint, out vcpus bigint, out memory_mb bigint, out disk_mb bigint)
  stable language sql as $$
  select count(*),
    coalesce(sum(coalesce(nullif(s.vcpus, 0), 1)) filter (where s.state <> 'paused'), 0),
    coalesce(sum(coalesce(nullif(s.memory_mib, 0), 512)) filter (where s.state <> 'paused'), 0),
    coalesce(sum(coalesce(nullif(s.disk_mib, 0), 1024)), 0)
  from sandboxes s where s.team_id = team and s.state not in ('stopped', 'error') and s.id <> but
$$;

-- Holds the limits in the statement that would pass them; creations of one team that has limits take turns.
create function wrenn_hold_quota() returns trigger language plpgsql as $$
declare
  q quotas;
  used record;
  full_of text;
begin
  if tg_op = 'UPDATE' and not (old.state = 'paused' and new.state not in ('paused', 'stopping', 'stopped', 'error', 'missing')) then
    return new;
  end if;
  select * into q from quotas where team_id in (new.team_id, '*') order by team_id = '*' limit 1;
  if not found or coalesce(q.sandboxes, q.vcpus, q.memory_mb, q.disk_mb) is null then
    return new;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('wrenn_quota:' || new.team_id, 0));
  select * into used from wrenn_team_use(new.team_id, new.id);
  full_of := case
    when used.sandboxes + 1 > q.sandboxes then 'sandboxes'
    when used.vcpus + coalesce(nullif(new.vcpus, 0), 1) > q.vcpus then 'vcpus'
    when used.memory_mb + coalesce(nullif(new.memory_mib, 0), 512) > q.memory_mb then 'memory_mb'
    when used.disk_mb + coalesce(nullif(new.disk_mib, 0), 1024) > q.disk_mb then 'disk_mb'
  end;
  if full_of is not null then
    raise exception using errcode = 'WRQ01', message = full_of;
  end if;
  return new;
end
$$;
create trigger b_quota before insert on sandboxes for each row execute function wrenn_hold_quota();
create trigger b_quota_change before update of state on sandboxes
  for each row when (old.state = 'paused') execute function wrenn_hold_quota();

-- A name may be erased with its account; the chain holds its keyed digest instead.
alter table audit_logs add column actor_digest text not null default '';
create index audit_logs_actor on audit_logs (actor_id) where actor_id <> '';
