-- Logout tokens that relying parties are still to get (OpenID Connect Back-Channel Logout 1.0): one
-- row for each session that has ended and each of its clients that has a backchannel_logout_uri.
create table logout_deliveries (
  id          bigint      not null generated always as identity,
  client_id   text        not null,
  session_uid text        not null,
  sid         text        not null,
  account_id  text        not null,
  attempts    smallint    not null default 0,
  due_at      timestamptz not null default now(),
  expires_at  timestamptz not null default now() + interval '1 hour',
  constraint logout_deliveries_pkey primary key (id),
  constraint logout_deliveries_once unique (client_id, session_uid, sid)
);

create index logout_deliveries_due_at on logout_deliveries (client_id, due_at);
create index logout_deliveries_expires_at on logout_deliveries (expires_at);

-- A trigger, so that no statement that ends a session can forget it, whatever release it is of. A
-- client has 1000 rows at most: of more its users learn from the next check of their sessions.
create function queue_logouts() returns trigger language plpgsql as $$
begin
  insert into logout_deliveries (client_id, session_uid, sid, account_id)
  select clients.id, old.uid, entry.value->>'sid', old.account_id
    from jsonb_each(old.authorizations) as entry
    join clients on clients.id = entry.key
   where (new.ended_at is not null or not new.authorizations ? entry.key)
     and clients.metadata ? 'backchannel_logout_uri'
     and entry.value->>'sid' is not null
     and (select count(*) from (select from logout_deliveries
                                 where client_id = clients.id limit 1000) as waiting) < 1000
  on conflict on constraint logout_deliveries_once do nothing;
  return null;
end
$$;

create trigger browser_sessions_logout after update of ended_at, authorizations on browser_sessions
  for each row
  when (old.ended_at is null
        and (new.ended_at is not null or new.authorizations is distinct from old.authorizations))
  execute function queue_logouts();
