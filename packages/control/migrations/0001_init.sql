create table teams (
  id text primary key,
  name text not null,
  created_at timestamptz(3) not null default now()
);

create table api_keys (
  id text primary key,
  team_id text not null references teams (id) on delete cascade,
  name text not null,
  key_hash text not null unique,
  key_prefix text not null,
  created_at timestamptz(3) not null default now(),
  last_used_at timestamptz(3)
);

create table hosts (
  id text primary key,
  address text not null unique,
  last_seen_at timestamptz(3),
  created_at timestamptz(3) not null default now()
);

create table sandboxes (
  id text primary key,
  team_id text not null references teams (id),
  host_id text not null references hosts (id),
  template text not null,
  state text not null,
  run bigint not null,
  version bigint not null default 0,
  vcpus integer not null,
  memory_mib integer not null,
  disk_mib integer not null,
  disk_used_bytes bigint not null default 0,
  timeout_sec integer not null,
  timeout_action text not null,
  metadata jsonb not null default '{}',
  versions jsonb not null default '{}',
  guest_ip text not null default '',
  host_ip text not null default '',
  reason text not null default '',
  created_at timestamptz(3) not null default now(),
  started_at timestamptz(3),
  last_active_at timestamptz(3),
  updated_at timestamptz(3) not null default now()
);

create index sandboxes_newest on sandboxes (team_id, created_at desc, id desc);
create index sandboxes_unfinished on sandboxes (host_id) where state <> 'stopped';
