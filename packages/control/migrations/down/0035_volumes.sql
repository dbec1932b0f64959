drop table volumes;
