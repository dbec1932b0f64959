drop trigger sandbox_audited on sandboxes;
drop function wrenn_audit_sandbox();
drop table audit_heads, audit_logs;
