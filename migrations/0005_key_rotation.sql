-- What a key is for: a signature algorithm of tokens, or one of the secrets that nodes share.
-- contract: the release before reads this table at its start only, and refuses to start on this schema.
alter table signing_keys rename column alg to purpose;

-- What each key does follows from these times and the time by this database's clock, so that all
-- nodes agree: it is published from created_at on, signs from signs_from until the next generation
-- does, is kept for what it signed, and is refused from retired_at on. See src/keys/key-schedule.ts.
alter table signing_keys
  add column signs_from timestamptz not null default now(),
  add column retired_at timestamptz;

update signing_keys set signs_from = created_at;

-- The algorithm of the access tokens that are made for an API.
alter table resource_servers add column signing_alg text not null default 'ES256';
