-- Sandboxes that some action is, or was, to bring into another state: few of many, looked for every few seconds.
create index sandboxes_unsettled on sandboxes (host_id)
  where state in ('pending', 'starting', 'pausing', 'resuming', 'stopping', 'missing');
