-- Many creations, and many hosts' answers, in one transaction each: a commit that tells of events is alone on the whole
-- database while it waits for its disk, so that a transaction for each would take turns.

-- A team's turn comes before the host's load, everywhere: two transactions that took them the other way round would wait
-- for each other.
alter trigger b_quota on sandboxes rename to a_quota;
alter trigger b_quota_change on sandboxes rename to a_quota_change;

-- Reserves and releases in the very statement that changes a sandbox, so that nothing comes between. An insert, or a
-- resume, that its host has no room for changes no row.
create or replace function wrenn_reserve() returns trigger language plpgsql as $$
declare
  moves boolean := tg_op = 'UPDATE' and old.host_id <> new.host_id;
  is_asking boolean := tg_op = 'INSERT' or moves or (old.state = 'paused' and new.state = 'resuming');
  memory bigint := wrenn_memory_of(new);
  cpus bigint := wrenn_vcpus_of(new);
  one bigint := wrenn_holds_memory(new.state)::int;
begin
  if tg_op = 'INSERT' then
    -- The row of the load is locked until the commit. That need not wait for the disk where another change of the sandbox
    -- comes before its host is called, which does, and the log keeps their order.
    if new.state = 'pending' then
      perform set_config('synchronous_commit', 'off', true);
    end if;
  elsif not moves then
    memory := memory - wrenn_memory_of(old);
    cpus := cpus - wrenn_vcpus_of(old);
    one := one - wrenn_holds_memory(old.state)::int;
    if memory = 0 and cpus = 0 and one = 0 then
      return new;
    end if;
  end if;
  update host_loads set memory_mib = host_loads.memory_mib + memory, vcpus = host_loads.vcpus + cpus,
    sandboxes = host_loads.sandboxes + one
    from hosts where host_loads.host_id = new.host_id and hosts.id = new.host_id
      and (not is_asking or ((hosts.capacity_mib = 0 or host_loads.memory_mib + memory <= hosts.capacity_mib)
        and (hosts.mode = 'active' or not (tg_op = 'INSERT' or moves)) and hosts.deleted_at is null));
  if not found and is_asking then
    return null;
  end if;
  if moves then
    update host_loads set memory_mib = memory_mib - wrenn_memory_of(old), vcpus = vcpus - wrenn_vcpus_of(old),
      sandboxes = sandboxes - wrenn_holds_memory(old.state)::int where host_id = old.host_id;
  end if;
  return new;
end
$$;

-- A sandbox that is written down with its host already chosen is told of as one that was pending before.
create function wrenn_sandbox_placed() returns trigger language plpgsql as $$
begin
  insert into events (team_id, kind, resource_id, from_state, to_state)
    values (new.team_id, 'capsule.state.changed', new.id, 'pending', new.state);
  return null;
end
$$;
create trigger sandbox_placed after insert on sandboxes
  for each row when (new.state = 'starting') execute function wrenn_sandbox_placed();

-- Inserts sandboxes on their hosts and answers those that these have room for. Teams that have limits, then hosts, are
-- locked in one order by all.
create function wrenn_place(wanted jsonb) returns setof sandboxes language plpgsql as $$
declare
  team text;
begin
  for team in select distinct w.team_id from jsonb_populate_recordset(null::sandboxes, wanted) w
      where exists (select from quotas q where q.team_id in (w.team_id, '*')) order by 1 loop
    perform pg_advisory_xact_lock(hashtextextended('wrenn_quota:' || team, 0));
  end loop;
  return query insert into sandboxes (id, team_id, host_id, name, template, origin, state, asked_by, run, vcpus, memory_mib,
      disk_mib, timeout_sec, timeout_action, end_at, terms, network, mounts, metadata)
    select w.id, w.team_id, w.host_id, w.name, w.template, w.origin, w.state, w.asked_by, w.run, w.vcpus, w.memory_mib,
      w.disk_mib, w.timeout_sec, w.timeout_action, w.end_at, w.terms, w.network, w.mounts, w.metadata
    from jsonb_populate_recordset(null::sandboxes, wanted) w order by w.host_id, w.id
    returning sandboxes.*;
end
$$;

-- Writes what hosts said into rows that still are as they were seen, and answers those. Rows are locked in one order by
-- all, then the loads of hosts: another replica may bring in the same reports.
create function wrenn_report(reports jsonb) returns setof sandboxes language plpgsql as $$
declare
  report record;
begin
  perform from sandboxes s where s.id in (select r ->> 'id' from jsonb_array_elements(reports) r) order by s.id for update;
  for report in select * from jsonb_to_recordset(reports) as r (id text, seen_state text, seen_run bigint,
      seen_version bigint, host_id text, state text, run bigint, version bigint, vcpus integer, memory_mib integer,
      disk_mib integer, disk_used_bytes bigint, disk_only boolean, timeout_sec integer, guest_ip text, host_ip text,
      versions jsonb, reason text, origin text, started_at timestamptz, last_active_at timestamptz)
      order by r.host_id, r.id loop
    return query update sandboxes s set state = report.state, run = report.run, version = report.version,
        vcpus = report.vcpus, memory_mib = report.memory_mib, disk_mib = report.disk_mib,
        disk_used_bytes = report.disk_used_bytes, disk_only = report.disk_only, timeout_sec = report.timeout_sec,
        guest_ip = report.guest_ip, host_ip = report.host_ip, versions = report.versions, reason = report.reason,
        origin = report.origin, started_at = report.started_at, last_active_at = report.last_active_at, updated_at = now()
      where s.id = report.id and s.state = report.seen_state and s.run = report.seen_run
        and s.version = report.seen_version
      returning s.*;
  end loop;
end
$$;
