create table idempotency_keys (
  team_id text not null references teams (id),
  key text not null,
  digest text not null,
  sandbox_id text not null references sandboxes (id),
  created_at timestamptz(3) not null default now(),
  primary key (team_id, key)
);

create index idempotency_keys_oldest on idempotency_keys (created_at);
