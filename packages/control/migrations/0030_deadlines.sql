alter table sandboxes add column end_at timestamptz(3);
alter table sandboxes add column terms jsonb;

create index sandboxes_due on sandboxes (end_at) where state = 'running' and end_at is not null;
