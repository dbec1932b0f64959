create table settings (
  name text primary key,
  value text not null
);

create table public_ports (
  sandbox_id text not null references sandboxes (id) on delete cascade,
  port integer not null,
  primary key (sandbox_id, port)
);
