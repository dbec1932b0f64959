-- What happened, written in the transaction in which it did. `xact` orders: a row with a lower number can still appear
-- while its transaction runs, so readers stop before the oldest one that does (PostgreSQL documentation, 9.27.8).
create table events (
  id bigint generated always as identity primary key,
  xact xid8 not null default pg_current_xact_id(),
  team_id text not null references teams (id),
  kind text not null,
  resource_id text not null,
  actor jsonb,
  error text,
  from_state text not null default '',
  to_state text not null default '',
  reason text not null default '',
  created_at timestamptz(3) not null default now()
);
create index events_order on events (team_id, xact, id);
create index events_oldest on events (created_at);

-- Who asked for the change under way.
alter table sandboxes add column asked_by jsonb;

-- When a sandbox ran, to the millisecond: what usage and figures are computed from.
create table usage_spans (
  id bigint generated always as identity primary key,
  team_id text not null references teams (id),
  sandbox_id text not null,
  vcpus integer not null,
  memory_mib integer not null,
  started_at timestamptz(3) not null,
  ended_at timestamptz(3)
);
create unique index usage_spans_open on usage_spans (sandbox_id) where ended_at is null;
create index usage_spans_team on usage_spans (team_id, started_at);
create index usage_spans_ended on usage_spans (ended_at);

insert into usage_spans (team_id, sandbox_id, vcpus, memory_mib, started_at)
  select team_id, id, greatest(vcpus, 1), greatest(memory_mib, 1), coalesce(started_at, updated_at) from sandboxes
  where state in ('running', 'missing', 'pausing', 'stopping') and started_at is not null;

create table channels (
  id text primary key,
  team_id text not null references teams (id) on delete cascade,
  name text not null,
  provider text not null,
  -- Encrypted: it holds addresses and tokens that let anybody write there.
  config text not null,
  events text[] not null,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (team_id, name)
);

-- One row for each event and channel, made with the event. A replica that delivers holds it for a while (`held_until`).
create table deliveries (
  id text primary key default gen_random_uuid()::text,
  channel_id text not null references channels (id) on delete cascade,
  event_id bigint references events (id) on delete cascade,
  event text not null,
  state text not null default 'due' check (state in ('due', 'delivered', 'dead')),
  attempts integer not null default 0,
  due_at timestamptz(3) not null default now(),
  held_until timestamptz(3),
  status integer,
  error text not null default '',
  created_at timestamptz(3) not null default now(),
  delivered_at timestamptz(3)
);
create index deliveries_due on deliveries (due_at) where state = 'due';
create index deliveries_newest on deliveries (channel_id, created_at desc, id desc);
create index deliveries_event on deliveries (event_id);

-- What channels call an event (Wrenn control plane 10); null for what they are not told of.
create function wrenn_channel_event(kind text) returns text immutable language sql as $$
  select case kind
    when 'capsule.create' then 'capsule.created' when 'capsule.resume' then 'capsule.running'
    when 'capsule.pause' then 'capsule.paused' when 'capsule.destroy' then 'capsule.destroyed'
    when 'template.snapshot.create' then 'template.snapshot.created'
    when 'template.snapshot.delete' then 'template.snapshot.deleted'
    when 'host.up' then 'host.up' when 'host.down' then 'host.down' end
$$;

create function wrenn_event_added() returns trigger language plpgsql as $$
begin
  if new.error is null then
    insert into deliveries (channel_id, event_id, event)
      select id, new.id, wrenn_channel_event(new.kind) from channels
      where team_id = new.team_id and wrenn_channel_event(new.kind) = any (events);
    if found then
      perform pg_notify('wrenn_deliveries', '');
    end if;
  end if;
  -- Short: a payload of 8000 bytes or more would make the statement fail.
  perform pg_notify('wrenn_events', json_strip_nulls(json_build_object(
    'cursor', new.xact::text || '-' || new.id, 'at', to_char(new.created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'kind', new.kind, 'team', new.team_id, 'id', new.resource_id, 'actor', new.actor, 'error', left(new.error, 300),
    'from', nullif(new.from_state, ''), 'to', nullif(new.to_state, ''), 'reason', nullif(left(new.reason, 300), '')))::text);
  return null;
end
$$;
create trigger event_added after insert on events for each row execute function wrenn_event_added();

-- A sandbox at rest has nobody who asks for anything.
create function wrenn_sandbox_settles() returns trigger language plpgsql as $$
begin
  if new.asked_by is not distinct from old.asked_by and new.state in ('running', 'paused', 'error', 'stopped') then
    new.asked_by := null;
  end if;
  return new;
end
$$;
create trigger b_settles before update of state on sandboxes
  for each row when (old.state is distinct from new.state) execute function wrenn_sandbox_settles();

create or replace function wrenn_sandbox_changed() returns trigger language plpgsql as $$
declare
  was_up boolean := old.state in ('running', 'pausing', 'stopping', 'missing') and old.started_at is not null;
  is_up boolean := new.state in ('running', 'pausing', 'stopping', 'missing') and new.started_at is not null;
  asker jsonb := coalesce(new.asked_by, old.asked_by);
  failed text := case when new.state = 'error' then coalesce(nullif(left(new.reason, 300), ''), 'failed') end;
  deed text := case
    when new.state = 'running' and old.state in ('pending', 'starting') then 'capsule.create'
    when new.state = 'error' and old.state in ('pending', 'starting') then 'capsule.create'
    when new.state = 'running' and old.state = 'resuming' then 'capsule.resume'
    when new.state = 'paused' and old.state in ('running', 'pausing') then 'capsule.pause'
    when new.state = 'stopped' then 'capsule.destroy' end;
begin
  insert into events (team_id, kind, resource_id, from_state, to_state, reason)
    values (new.team_id, 'capsule.state.changed', new.id, old.state, new.state, new.reason);
  -- What nobody asked for, such as a pause by time-out, is told when there is a reason for it.
  if deed is not null and (asker is not null or new.reason <> '') then
    insert into events (team_id, kind, resource_id, actor, error, reason)
      values (new.team_id, deed, new.id, asker, failed, case when asker is null then new.reason else '' end);
  end if;
  if was_up and (not is_up or new.run <> old.run) then
    update usage_spans set ended_at = now() where sandbox_id = new.id and ended_at is null;
  end if;
  if is_up and (not was_up or new.run <> old.run) then
    insert into usage_spans (team_id, sandbox_id, vcpus, memory_mib, started_at)
      values (new.team_id, new.id, greatest(new.vcpus, 1), greatest(new.memory_mib, 1), now()) on conflict do nothing;
  end if;
  return null;
end
$$;

-- A team's own host that comes and goes.
create function wrenn_host_came_or_went() returns trigger language plpgsql as $$
begin
  insert into events (team_id, kind, resource_id)
    values (new.team_id, case new.status when 'online' then 'host.up' else 'host.down' end, new.id);
  return null;
end
$$;
create trigger host_came_or_went after update of status on hosts for each row
  when (old.status is distinct from new.status and new.team_id is not null and new.deleted_at is null
    and ((new.status = 'online' and old.status = 'unreachable') or (new.status = 'unreachable' and old.status = 'online')))
  execute function wrenn_host_came_or_went();
