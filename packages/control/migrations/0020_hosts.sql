alter table hosts
  add column type text not null default 'regular' check (type in ('regular', 'byoc')),
  add column team_id text references teams (id),
  add column provider text not null default '',
  add column zone text not null default '',
  add column arch text not null default '',
  add column cpu_cores integer not null default 0,
  add column memory_mib bigint not null default 0,
  add column disk_mib bigint not null default 0,
  -- Memory that sandboxes may reserve; 0 for a host that has not told its size yet, which refuses nothing.
  add column capacity_mib bigint not null default 0,
  add column status text not null default 'pending' check (status in ('pending', 'online', 'unreachable')),
  add column mode text not null default 'active' check (mode in ('active', 'cordoned', 'draining', 'maintenance')),
  -- The host that wrenn-cp was told of by CP_HOST_AGENT_ADDR: it is one and the same whatever its address becomes.
  add column is_local boolean not null default false,
  add column cert_fingerprint text not null default '',
  add column cert_expires_at timestamptz(3),
  add column last_heartbeat_at timestamptz(3),
  add column created_by text not null default '',
  add column updated_at timestamptz(3) not null default now(),
  -- Rows of sandboxes outlive their host.
  add column deleted_at timestamptz(3),
  drop constraint hosts_address_key;

create unique index hosts_address on hosts (address) where address <> '' and deleted_at is null;
create unique index hosts_local on hosts (is_local) where is_local;
update hosts set is_local = true, status = 'online' where (select count(*) from hosts) = 1;

-- Secrets that open a host's routes: only their SHA-256 is kept.
create table host_tokens (
  hash text primary key,
  host_id text not null references hosts (id) on delete cascade,
  kind text not null check (kind in ('registration', 'access', 'refresh')),
  created_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);
create index host_tokens_host on host_tokens (host_id);

create table host_tags (
  host_id text not null references hosts (id) on delete cascade,
  tag text not null,
  primary key (host_id, tag)
);

-- What sandboxes have reserved of each host; beside the hosts' rows, which heartbeats write.
create table host_loads (
  host_id text primary key references hosts (id) on delete cascade,
  memory_mib bigint not null default 0,
  vcpus bigint not null default 0,
  sandboxes bigint not null default 0
);

create function wrenn_host_added() returns trigger language plpgsql as $$
begin
  insert into host_loads (host_id) values (new.id);
  return null;
end
$$;
create trigger host_added after insert on hosts for each row execute function wrenn_host_added();

-- A sandbox that is paused has its memory on the disk; one that ended has none.
create function wrenn_holds_memory(state text) returns boolean immutable language sql as $$
  select state not in ('paused', 'stopped', 'error')
$$;

-- What a sandbox counts for until its host has told its sizes.
create function wrenn_memory_of(s sandboxes) returns bigint immutable language sql as $$
  select case when wrenn_holds_memory(s.state) then coalesce(nullif(s.memory_mib, 0), 512) else 0 end
$$;
create function wrenn_vcpus_of(s sandboxes) returns bigint immutable language sql as $$
  select case when wrenn_holds_memory(s.state) then coalesce(nullif(s.vcpus, 0), 1) else 0 end
$$;

insert into host_loads (host_id) select id from hosts;
update host_loads set memory_mib = held.memory, vcpus = held.vcpus, sandboxes = held.sandboxes
  from (select s.host_id, sum(wrenn_memory_of(s)) as memory, sum(wrenn_vcpus_of(s)) as vcpus, count(*) as sandboxes
    from sandboxes s where wrenn_holds_memory(s.state) group by s.host_id) as held
  where held.host_id = host_loads.host_id;

-- Reserves and releases in the very statement that changes a sandbox, so that nothing comes between. An insert, or a
-- resume, that its host has no room for changes no row.
create function wrenn_reserve() returns trigger language plpgsql as $$
declare
  moves boolean := tg_op = 'UPDATE' and old.host_id <> new.host_id;
  is_asking boolean := tg_op = 'INSERT' or moves or (old.state = 'paused' and new.state = 'resuming');
  memory bigint := wrenn_memory_of(new);
  cpus bigint := wrenn_vcpus_of(new);
  one bigint := wrenn_holds_memory(new.state)::int;
begin
  if tg_op = 'INSERT' then
    -- The row of the load is locked until the commit. That need not wait for the disk: the next change of the sandbox,
    -- which comes before its host is called, does, and the log keeps their order.
    perform set_config('synchronous_commit', 'off', true);
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
create trigger a_reserve before insert on sandboxes for each row execute function wrenn_reserve();
create trigger a_reserve_change before update of state, host_id, vcpus, memory_mib on sandboxes
  for each row execute function wrenn_reserve();

-- Replicas keep a copy of the registry.
create function wrenn_hosts_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('wrenn_hosts', '');
  return null;
end
$$;
create trigger hosts_changed after insert or delete on hosts for each statement execute function wrenn_hosts_changed();
create trigger hosts_changed_how after update of address, mode, status, zone, team_id, capacity_mib, cert_fingerprint, deleted_at
  on hosts for each statement execute function wrenn_hosts_changed();
