alter table teams
  add column slug text not null default
    substr(md5(gen_random_uuid()::text), 1, 6) || '-' || substr(md5(gen_random_uuid()::text), 1, 6),
  add column is_byoc boolean not null default false,
  add column deleted_at timestamptz(3);
create unique index teams_slug on teams (slug);

create table users (
  id text primary key,
  email text not null,
  name text not null,
  password_hash text,
  is_admin boolean not null default false,
  status text not null check (status in ('inactive', 'active', 'disabled', 'deleted')),
  -- Encrypted. A secret that was not confirmed by a code yet is pending and asked of nobody.
  totp_secret text,
  totp_pending text,
  -- A code opens once: the step of the last one that did.
  totp_step bigint not null default 0,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3)
);
create unique index users_email on users (email) where status <> 'deleted';
create index users_newest on users (created_at desc, id desc);

create table memberships (
  user_id text not null references users (id) on delete cascade,
  team_id text not null references teams (id) on delete cascade,
  role text not null check (role in ('owner', 'admin', 'member')),
  is_default boolean not null default false,
  created_at timestamptz(3) not null default now(),
  primary key (user_id, team_id)
);
create index memberships_team on memberships (team_id);

create table identities (
  provider text not null,
  subject text not null,
  user_id text not null references users (id) on delete cascade,
  email text not null,
  created_at timestamptz(3) not null default now(),
  primary key (provider, subject)
);
create index identities_user on identities (user_id);

create table sessions (
  id text primary key,
  token_hash text not null unique,
  user_id text not null references users (id) on delete cascade,
  team_id text not null references teams (id) on delete cascade,
  impersonator_id text references users (id) on delete cascade,
  ip text not null,
  user_agent text not null,
  created_at timestamptz(3) not null default now(),
  last_used_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);
create index sessions_user on sessions (user_id, team_id);
create index sessions_expiry on sessions (expires_at);

-- What a link in a mail opens, once.
create table one_time_tokens (
  token_hash text primary key,
  purpose text not null,
  user_id text not null references users (id) on delete cascade,
  created_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null
);
create index one_time_tokens_user on one_time_tokens (user_id);

create table recovery_codes (
  user_id text not null references users (id) on delete cascade,
  code_hash text not null,
  primary key (user_id, code_hash)
);

create table invitations (
  id text primary key,
  token_hash text not null unique,
  team_id text not null references teams (id) on delete cascade,
  email text not null,
  role text not null check (role in ('admin', 'member')),
  invited_by text references users (id) on delete set null,
  created_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null,
  unique (team_id, email)
);

-- Mails wait here until they are sent. The letter is encrypted: it holds links that open accounts.
create table mails (
  id text primary key,
  recipient text not null,
  subject text not null,
  letter text not null,
  attempts integer not null default 0,
  error text not null default '',
  created_at timestamptz(3) not null default now(),
  due_at timestamptz(3) not null default now()
);
create index mails_due on mails (due_at);

-- A leaky bucket for each name, kept as the time at which it has drained.
create table attempts (
  bucket text primary key,
  empty_at timestamptz not null
);
create index attempts_empty on attempts (empty_at);

alter table api_keys
  add column created_by text references users (id) on delete set null,
  add column scopes text,
  add column expires_at timestamptz(3);
create index api_keys_team on api_keys (team_id, created_at desc, id desc);

-- Replicas remember who may come in for some seconds. Told by the database when that ends earlier.
create function wrenn_access_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('wrenn_access', '');
  return null;
end
$$;
create trigger access_changed after delete on sessions
  for each statement execute function wrenn_access_changed();
create trigger access_changed after delete or update of scopes, expires_at on api_keys
  for each statement execute function wrenn_access_changed();
create trigger access_changed after delete or update of role on memberships
  for each statement execute function wrenn_access_changed();
create trigger access_changed after update of status, is_admin, name on users
  for each statement execute function wrenn_access_changed();
create trigger access_changed after update of deleted_at on teams
  for each statement execute function wrenn_access_changed();
