alter table sandboxes drop column network;
