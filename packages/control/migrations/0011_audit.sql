-- Who did what. A row is written as it happens, and sealed soon after: it gets its number in the team's chain and a
-- keyed hash over itself and the row before it, so that a change, a gap or a missing row shows.
create table audit_logs (
  n bigint generated always as identity primary key,
  id text not null unique,
  team_id text not null references teams (id) on delete cascade,
  actor_type text not null,
  actor_id text not null default '',
  actor_name text not null default '',
  resource_type text not null,
  resource_id text not null default '',
  action text not null,
  scope text not null check (scope in ('team', 'admin')),
  status text not null check (status in ('success', 'info', 'warning', 'error')),
  metadata jsonb not null default '{}',
  created_at timestamptz(3) not null default now(),
  seq bigint,
  hash text
);
create index audit_logs_newest on audit_logs (team_id, created_at desc, n desc);
create index audit_logs_unsealed on audit_logs (n) where seq is null;
create unique index audit_logs_chain on audit_logs (team_id, seq) where seq is not null;

create table audit_heads (
  team_id text primary key references teams (id) on delete cascade,
  seq bigint not null,
  hash text not null
);

-- What the system does by itself has a reason, and nobody who asked; a failed creation is told by who asked for it.
create function wrenn_audit_sandbox() returns trigger language plpgsql as $$
begin
  insert into audit_logs (id, team_id, actor_type, actor_name, resource_type, resource_id, action, scope, status, metadata)
  values ('log-' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 25), new.team_id, 'system', 'system',
    'sandbox', 'cl-' || new.id,
    case new.state when 'paused' then 'pause' when 'stopped' then 'destroy' when 'missing' then 'lose' else 'fail' end,
    'team', case new.state when 'paused' then 'info' when 'stopped' then 'warning' else 'error' end,
    jsonb_build_object('reason', left(new.reason, 300)));
  return null;
end
$$;
create trigger sandbox_audited after update of state on sandboxes
  for each row when (old.state is distinct from new.state and new.state in ('paused', 'stopped', 'missing', 'error')
    and (new.reason <> '' or new.state = 'missing') and old.state not in ('pending', 'starting'))
  execute function wrenn_audit_sandbox();
