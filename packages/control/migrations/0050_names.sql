-- What a team calls a sandbox; empty when it has no name.
alter table sandboxes add column name text not null default '';

-- A sandbox that is over, or about to be, leaves its name to others. It never comes back from there, so no change of state
-- can meet a name that was taken meanwhile.
create unique index sandboxes_name on sandboxes (team_id, name)
  where name <> '' and state not in ('stopping', 'stopped', 'error');
