-- A renewed certificate is in use only when its agent has read it: until then the one before is good too.
alter table hosts add column cert_previous text not null default '';
