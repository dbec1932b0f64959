create table snapshots (
  id text primary key,
  team_id text not null references teams (id),
  name text not null,
  host_id text not null references hosts (id),
  sandbox_id text not null references sandboxes (id),
  parent_id text not null,
  template text not null,
  vcpus integer not null,
  memory_mib integer not null,
  disk_mib integer not null,
  size_bytes bigint not null,
  metadata jsonb not null default '{}',
  created_at timestamptz(3) not null default now(),
  unique (team_id, name)
);

create index snapshots_newest on snapshots (team_id, created_at desc, id desc);
create index snapshots_parent on snapshots (parent_id);

alter table sandboxes add column origin text not null default '';
