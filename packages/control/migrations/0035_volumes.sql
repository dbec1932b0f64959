-- Volumes of teams: files that outlive sandboxes, in a folder of one host.
create table volumes (
  id text primary key,
  team_id text not null references teams (id) on delete cascade,
  host_id text not null,
  name text not null,
  created_at timestamptz(3) not null default now(),
  unique (team_id, name)
);
