alter table hosts drop column cert_previous;
