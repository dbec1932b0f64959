-- Templates that teams build: names, their builds (each successful one is a version), tags that point at versions.
create table templates (
  id text primary key,
  team_id text not null references teams (id) on delete cascade,
  name text not null,
  platform boolean not null default false,
  created_at timestamptz(3) not null default now(),
  unique (team_id, name)
);
create unique index templates_platform on templates (name) where platform;

create table builds (
  id text primary key,
  template_id text not null references templates (id) on delete cascade,
  team_id text not null references teams (id) on delete cascade,
  number bigint generated always as identity,
  status text not null,
  plan jsonb not null,
  source jsonb not null,
  tags jsonb not null,
  actor jsonb not null,
  vcpus integer not null,
  memory_mib integer not null,
  timeout_sec integer not null,
  no_cache boolean not null default false,
  current_step integer not null default 0,
  total_steps integer not null default 0,
  attempts integer not null default 0,
  cancel_asked boolean not null default false,
  lease_owner text not null default '',
  lease_until timestamptz(3),
  error jsonb,
  snapshot_id text not null default '',
  host_id text not null default '',
  sandbox_id text not null default '',
  size_bytes bigint not null default 0,
  defaults jsonb not null default '{}',
  provenance jsonb not null default '[]',
  created_at timestamptz(3) not null default now(),
  started_at timestamptz(3),
  completed_at timestamptz(3)
);
create index builds_queue on builds (number) where status in ('waiting', 'pending', 'running');
create index builds_newest on builds (team_id, number desc);
create index builds_of_template on builds (template_id, number desc);

create table template_tags (
  template_id text not null references templates (id) on delete cascade,
  tag text not null,
  build_id text not null references builds (id) on delete cascade,
  created_at timestamptz(3) not null default now(),
  primary key (template_id, tag)
);

create table build_logs (
  build_id text not null references builds (id) on delete cascade,
  seq bigint generated always as identity,
  at timestamptz(3) not null,
  step integer not null,
  stream text not null,
  message text not null,
  primary key (build_id, seq)
);

-- What a step led to, by the digest of everything it depends on.
create table build_cache (
  team_id text not null references teams (id) on delete cascade,
  key text not null,
  snapshot_id text not null,
  host_id text not null,
  used_at timestamptz(3) not null default now(),
  primary key (team_id, key)
);

-- Archives that builds copy from.
create table build_files (
  team_id text not null references teams (id) on delete cascade,
  hash text not null,
  size_bytes bigint not null,
  used_at timestamptz(3) not null default now(),
  primary key (team_id, hash)
);
create table build_file_parts (
  team_id text not null,
  hash text not null,
  part integer not null,
  data bytea not null,
  primary key (team_id, hash, part),
  foreign key (team_id, hash) references build_files (team_id, hash) on delete cascade deferrable initially deferred
);

-- Snapshots that builds made: theirs to delete, and not the team's to see.
alter table snapshots add column of_build boolean not null default false;
