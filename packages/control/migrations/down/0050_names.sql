alter table sandboxes drop column name;
