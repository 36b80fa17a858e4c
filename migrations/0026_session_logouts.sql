-- Only a session that ends, or in which a client is no longer authorized, has logouts to queue. One that
-- gains a client, as with each sign-in, does not call the function.
create or replace trigger browser_sessions_logout
  after update of ended_at, authorizations on browser_sessions
  for each row
  when (old.ended_at is null
        and (new.ended_at is not null or not new.authorizations @> old.authorizations))
  execute function queue_logouts();
