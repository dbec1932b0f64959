-- Told by the database, so that a change reaches every replica's listeners when it is committed, and only then.
-- The text is short: a payload of 8000 bytes or more would make the update fail.
create function wrenn_sandbox_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('wrenn_events', json_build_object(
    'kind', 'capsule.state.changed', 'team', new.team_id, 'id', new.id,
    'from', old.state, 'to', new.state, 'reason', left(new.reason, 300))::text);
  return null;
end
$$;

create trigger sandbox_changed after update of state on sandboxes
  for each row when (old.state is distinct from new.state) execute function wrenn_sandbox_changed();
