drop function wrenn_report(jsonb);
drop function wrenn_place(jsonb);
drop trigger sandbox_placed on sandboxes;
drop function wrenn_sandbox_placed();
alter trigger a_quota on sandboxes rename to b_quota;
alter trigger a_quota_change on sandboxes rename to b_quota_change;

create or replace function wrenn_reserve() returns trigger language plpgsql as $$
declare
  moves boolean := tg_op = 'UPDATE' and old.host_id <> new.host_id;
  is_asking boolean := tg_op = 'INSERT' or moves or (old.state = 'paused' and new.state = 'resuming');
  memory bigint := wrenn_memory_of(new);
  cpus bigint := wrenn_vcpus_of(new);
  one bigint := wrenn_holds_memory(new.state)::int;
begin
  if tg_op = 'INSERT' then
    -- The row of the load is locked until the commit. That need not wait for the disk: the next change of the sandbox,
    -- which comes before its host is called, does, and the log keeps their order.
    perform set_config('synchronous_commit', 'off', true);
  elsif not moves then
    memory := memory - wrenn_memory_of(old);
    cpus := cpus - wrenn_vcpus_of(old);
    one := one - wrenn_holds_memory(old.state)::int;
    if memory = 0 and cpus = 0 and one = 0 then
      return new;
    end if;
  end if;
  update host_loads set memory_mib = host_loads.memory_mib + memory, vcpus = host_loads.vcpus + cpus,
    sandboxes = host_loads.sandboxes + one
    from hosts where host_loads.host_id = new.host_id and hosts.id = new.host_id
      and (not is_asking or ((hosts.capacity_mib = 0 or host_loads.memory_mib + memory <= hosts.capacity_mib)
        and (hosts.mode = 'active' or not (tg_op = 'INSERT' or moves)) and hosts.deleted_at is null));
  if not found and is_asking then
    return null;
  end if;
  if moves then
    update host_loads set memory_mib = memory_mib - wrenn_memory_of(old), vcpus = vcpus - wrenn_vcpus_of(old),
      sandboxes = sandboxes - wrenn_holds_memory(old.state)::int where host_id = old.host_id;
  end if;
  return new;
end
$$;
