-- A sandbox that only the object store has would be out of reach: it is marked as an error, and says so.
update sandboxes set state = 'error', reason = 'It is in the object store, which this version does not know.'
  where parcel <> '';
drop table host_drains, discarded_parcels;
drop trigger d_hibernates on sandboxes;
drop trigger c_leaves_store on sandboxes;
drop function wrenn_hibernates(), wrenn_leaves_store();
drop index sandboxes_stored;
alter table sandboxes drop column parcel, drop column store_id, drop column move_class, drop column parcel_bytes;
drop trigger hosts_changed_how on hosts;
create trigger hosts_changed_how after update of address, mode, status, zone, team_id, capacity_mib, cert_fingerprint, deleted_at
  on hosts for each statement execute function wrenn_hosts_changed();
alter table hosts drop column move_class, drop column store_id;
