-- Credentials of the registry that a build pulls from, encrypted, until the build is over.
alter table builds add column secret text not null default '';
