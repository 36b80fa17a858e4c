-- What nodes write to see that the database takes writes: a few rows, written over again and again.
create table node_probes (
  slot int primary key,
  at timestamptz not null
);
