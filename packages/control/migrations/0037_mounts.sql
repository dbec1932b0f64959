-- Volumes that are mounted in a sandbox, and in what is started from its snapshots; null: none.
alter table sandboxes add column mounts jsonb;
alter table snapshots add column mounts jsonb;
