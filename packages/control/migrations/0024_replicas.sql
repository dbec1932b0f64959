-- The control planes there are: a host that dials in has a line to each.
create table replicas (
  id text primary key,
  seen_at timestamptz(3) not null default now()
);
