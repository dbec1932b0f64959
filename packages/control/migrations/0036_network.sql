-- What a sandbox may reach; null: whatever its host allows. Placeholders of secrets stand in it, never their values.
alter table sandboxes add column network jsonb;

update sandboxes set network = '{"internet": false, "allow": [], "deny": [], "rules": {}}'
  where (terms ->> 'isolated')::boolean;
