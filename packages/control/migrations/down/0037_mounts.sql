alter table snapshots drop column mounts;
alter table sandboxes drop column mounts;
