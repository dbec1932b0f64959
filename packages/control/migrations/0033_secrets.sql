-- Secrets of teams. Each change of a value is a version of its own.
create table secrets (
  id text primary key,
  team_id text not null references teams (id) on delete cascade,
  name text not null,
  current_version bigint not null default 1,
  metadata jsonb not null default '{}',
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (team_id, name)
);
create index secrets_newest on secrets (team_id, created_at desc, id desc);

create table secret_versions (
  secret_id text not null references secrets (id) on delete cascade,
  version bigint not null,
  -- Encrypted.
  value text not null,
  created_at timestamptz(3) not null default now(),
  primary key (secret_id, version)
);
