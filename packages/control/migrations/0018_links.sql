-- Links that sign a browser in once, as the team of the key that made them.
create table sign_in_links (
  token_hash text primary key,
  key_id text not null references api_keys (id) on delete cascade,
  created_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);

-- A browser's key lives in its cookie: nobody has seen it, and signing out ends it.
alter table api_keys add column of_browser boolean not null default false;
