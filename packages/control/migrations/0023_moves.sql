-- A paused sandbox that no host has: its name in the object store, which store that is, and which hosts can resume it.
-- `host_id` then says where it was last. Empty for one that its host has.
alter table sandboxes
  add column parcel text not null default '',
  add column store_id text not null default '',
  add column move_class text not null default '',
  add column parcel_bytes bigint not null default 0;
create index sandboxes_stored on sandboxes (store_id) where parcel <> '';

-- What hosts told of themselves: which of them can resume each other's sandboxes, and by which store.
alter table hosts
  add column move_class text not null default '',
  add column store_id text not null default '';

drop trigger hosts_changed_how on hosts;
create trigger hosts_changed_how after update of address, mode, status, zone, team_id, capacity_mib, cert_fingerprint,
  deleted_at, move_class, store_id on hosts for each statement execute function wrenn_hosts_changed();

-- What nobody needs of the object stores any more. A replica that removes some holds them for a while.
create table discarded_parcels (
  id bigint generated always as identity primary key,
  team_id text not null,
  store_id text not null,
  parcel text not null,
  held_until timestamptz(3),
  created_at timestamptz(3) not null default now()
);

-- A sandbox that runs has left the store, and one that ended needs nothing there: in the statement that changes it, so
-- that no replica which dies in between leaves a row that would go back in time at its next resume.
create function wrenn_leaves_store() returns trigger language plpgsql as $$
begin
  insert into discarded_parcels (team_id, store_id, parcel) values (old.team_id, old.store_id, old.parcel);
  new.parcel := '';
  new.store_id := '';
  new.move_class := '';
  new.parcel_bytes := 0;
  return new;
end
$$;
create trigger c_leaves_store before update of state on sandboxes
  for each row when (old.parcel <> '' and new.state in ('running', 'stopped')) execute function wrenn_leaves_store();

-- Told as every change is; its state stays `paused`.
create function wrenn_hibernates() returns trigger language plpgsql as $$
begin
  insert into events (team_id, kind, resource_id, actor) values (new.team_id, 'capsule.hibernate', new.id, new.asked_by);
  new.asked_by := null;
  return new;
end
$$;
create trigger d_hibernates before update of parcel on sandboxes
  for each row when (old.parcel = '' and new.parcel <> '') execute function wrenn_hibernates();

-- A host that is being emptied. A replica that does it holds it for a while; one that dies leaves it to the others.
create table host_drains (
  host_id text primary key references hosts (id) on delete cascade,
  asked_by jsonb not null,
  -- Sandboxes it began with, and what became of each: {"ID": {"outcome": ..., "error": ...}}.
  total integer not null default 0,
  outcomes jsonb not null default '{}',
  started_at timestamptz(3) not null default now(),
  finished_at timestamptz(3),
  held_until timestamptz(3)
);
