-- What happened and who did it: logins, consents, grants, refusals, changes of keys and clients.
-- Rows are written by one transaction at a time (see src/storage/audit-table.ts), so that ids
-- become visible in their order and whoever follows the table by id misses none.
-- details is json and not jsonb: it repeats strings of requests, and jsonb refuses U+0000.
create table audit_events (
  id         bigint      not null generated always as identity,
  at         timestamptz not null,
  event      text        not null,
  actor      text,
  account    text,
  client     text,
  address    text,
  request_id text,
  details    json        not null,
  constraint audit_events_pkey primary key (id)
);

create index audit_events_at on audit_events (at);
create index audit_events_account on audit_events (account, id) where account is not null;

-- Whoever takes over the server or its database role can add rows, and cannot change or remove
-- one. The owner of the table can drop this trigger: run the server as another role than the owner,
-- or export the events, where that matters.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and old.at < now() - interval '90 days' then
    return old;
  end if;
  raise exception 'audit events are append-only; those older than 90 days may be deleted'
    using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_events_append_only before update or delete on audit_events
  for each row execute function refuse_audit_change();

create trigger audit_events_no_truncate before truncate on audit_events
  for each statement execute function refuse_audit_change();

-- Counters of rate limits, in the columns that rate-limiter-flexible expects. Keys are digests:
-- the table names no account and no address. Unlogged: a crash forgets some failed attempts, and
-- spares every failed attempt a write to the log.
create unlogged table rate_limits (
  key    text    not null,
  points integer not null default 0,
  expire bigint,
  constraint rate_limits_pkey primary key (key)
);

create index rate_limits_expire on rate_limits (expire);
