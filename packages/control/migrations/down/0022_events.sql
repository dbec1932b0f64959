drop trigger host_came_or_went on hosts;
drop trigger b_settles on sandboxes;
create or replace function wrenn_sandbox_changed() returns trigger language plpgsql as $$
begin
  perform pg_notify('wrenn_events', json_build_object(
    'kind', 'capsule.state.changed', 'team', new.team_id, 'id', new.id,
    'from', old.state, 'to', new.state, 'reason', left(new.reason, 300))::text);
  return null;
end
$$;
drop table deliveries, channels, usage_spans, events;
drop function wrenn_host_came_or_went();
drop function wrenn_sandbox_settles();
drop function wrenn_event_added();
drop function wrenn_channel_event(text);
alter table sandboxes drop column asked_by;
