-- Notifications that clients are still to get of requests that a person has decided (CIBA Core section
-- 10.2): one row for each request. What is sent is sealed, so that no reader of the table can redeem it.
create table ping_deliveries (
  id         bigint      not null generated always as identity,
  client_id  text        not null,
  account_id text        not null,
  request_id bytea       not null,
  sealed     text        not null,
  attempts   smallint    not null default 0,
  due_at     timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint ping_deliveries_pkey primary key (id),
  constraint ping_deliveries_once unique (request_id)
);

create index ping_deliveries_due_at on ping_deliveries (client_id, due_at);
create index ping_deliveries_expires_at on ping_deliveries (expires_at);

-- Whether any client asks people by the backchannel: My security links their requests only then.
create index clients_ciba on clients (id)
  where metadata->'grant_types' ? 'urn:openid:params:grant-type:ciba';
