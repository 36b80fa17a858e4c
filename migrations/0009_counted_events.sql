-- What strangers caused (refused requests, failed sign-ins of unknown accounts, rate limits),
-- counted for each minute, kind and network, so that no flood becomes a row for each request. Each
-- server writes a bounded number of rows a minute; what is beyond is counted for the network '*'.
create table counted_events (
  minute     timestamptz not null,
  event      text        not null,
  -- Why, of a closed set of words for each event.
  reason     text        not null,
  network    text        not null,
  count      bigint      not null,
  -- Of the last one: for whoever wants to find it in the log.
  client     text,
  request_id text,
  constraint counted_events_pkey primary key (minute, event, reason, network)
);

-- Failed sign-ins of one account, for its owner to read: one row an hour, however many there were.
create table failed_sign_ins (
  account_id text        not null,
  hour       timestamptz not null,
  count      integer     not null,
  -- Of the last one.
  at         timestamptz not null,
  address    text        not null,
  user_agent text        not null,
  constraint failed_sign_ins_pkey primary key (account_id, hour)
);

create index failed_sign_ins_hour on failed_sign_ins (hour);
