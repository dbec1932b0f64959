alter table sandboxes drop column disk_only;
