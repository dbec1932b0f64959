drop table replicas;
