-- Whether a paused sandbox has kept its disk alone: it boots when it is resumed.
alter table sandboxes add column disk_only boolean not null default false;
