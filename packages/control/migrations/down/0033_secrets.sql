drop table secret_versions, secrets;
