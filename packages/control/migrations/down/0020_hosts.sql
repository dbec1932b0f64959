drop trigger a_reserve on sandboxes;
drop trigger a_reserve_change on sandboxes;
drop trigger host_added on hosts;
drop trigger hosts_changed on hosts;
drop trigger hosts_changed_how on hosts;
drop function wrenn_reserve();
drop function wrenn_memory_of(sandboxes);
drop function wrenn_vcpus_of(sandboxes);
drop function wrenn_holds_memory(text);
drop function wrenn_host_added();
drop function wrenn_hosts_changed();
drop table host_loads, host_tags, host_tokens;
drop index hosts_address;
drop index hosts_local;
-- An older program knows a host by its address, and every row has one.
update hosts set address = 'gone:' || id where address = '' or deleted_at is not null;
alter table hosts
  drop column type, drop column team_id, drop column provider, drop column zone, drop column arch,
  drop column cpu_cores, drop column memory_mib, drop column disk_mib, drop column capacity_mib, drop column status,
  drop column mode, drop column is_local, drop column cert_fingerprint, drop column cert_expires_at,
  drop column last_heartbeat_at, drop column created_by, drop column updated_at, drop column deleted_at,
  add constraint hosts_address_key unique (address);
