drop trigger b_quota on sandboxes;
drop trigger b_quota_change on sandboxes;
drop function wrenn_hold_quota();
drop function wrenn_team_use(text, text);
drop index sandboxes_living;
drop table quotas;
drop index audit_logs_actor;
alter table audit_logs drop column actor_digest;
