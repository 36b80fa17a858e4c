-- The chain of one authorization: what was issued from one code, and from its refresh tokens. One
-- that has ended has a row of kind 'EndedFamily', which outlives whatever a request wrote meanwhile.
-- Null for what the previous release wrote: such a token ends with every chain of its grant.
alter table artifacts
  add column family_id text,
  add column client_id text,
  -- The client as it was there when the row was written. A row whose client was removed counts for
  -- nothing, also when another client has been given the client_id since. Null with client_id null:
  -- written by the previous release, or of a client that is part of the server.
  add column client_incarnation uuid;

create index artifacts_client_id on artifacts (client_id) where client_id is not null;

alter table clients add column incarnation uuid not null default gen_random_uuid();
