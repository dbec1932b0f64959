drop trigger access_changed on sessions;
drop trigger access_changed on api_keys;
drop trigger access_changed on memberships;
drop trigger access_changed on users;
drop trigger access_changed on teams;
drop function wrenn_access_changed();
drop index api_keys_team;
-- An older program reads neither scopes nor ends: a key that has them must not open everything there.
delete from api_keys where scopes is not null or expires_at is not null;
delete from api_keys where team_id in (select id from teams where deleted_at is not null);
alter table api_keys drop column created_by, drop column scopes, drop column expires_at;
drop table attempts, mails, invitations, recovery_codes, one_time_tokens, sessions, identities, memberships, users;
drop index teams_slug;
alter table teams drop column slug, drop column is_byoc, drop column deleted_at;
