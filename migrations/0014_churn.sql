-- Both tables gain and lose as many rows as there are requests. By the standards of PostgreSQL a
-- vacuum waits until a fifth of a table is dead, and then proceeds slowly: the index by which rows
-- expire would have an entry for each of them until then. A tenth of a page is left free for the
-- time at which a token is used, so that no index has to learn of it. Weak locks: reads and writes
-- continue, and no row is rewritten.
alter table artifacts set (
  fillfactor = 90,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_cost_limit = 2000
);

alter table replay_marks set (
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_cost_limit = 2000
);
