-- One row for each sign-in in a browser. The engine reads and rewrites a session as a whole on
-- every request, so that of two requests at once one would lose what the other did: what must not
-- be lost stands here, keyed by the session's uid, and is changed by single statements. A session
-- whose row is missing or ended is no session, whatever the engine's own copy says.
create table browser_sessions (
  uid            text        not null,
  account_id     text        not null,
  -- What each client was granted in this session, by client_id.
  authorizations jsonb       not null,
  user_agent     text        not null,
  address        text        not null,
  signed_in_at   timestamptz not null,
  expires_at     timestamptz not null,
  ended_at       timestamptz,
  constraint browser_sessions_pkey primary key (uid)
);

create index browser_sessions_account_id on browser_sessions (account_id);
create index browser_sessions_expires_at on browser_sessions (expires_at);

-- The key that a session is bound to: inserted once, and never changed.
create table session_bindings (
  uid      text        not null,
  method   text        not null,
  jkt      text        not null,
  alg      text        not null,
  jwk      jsonb       not null,
  bound_at timestamptz not null default now(),
  constraint session_bindings_pkey primary key (uid),
  constraint session_bindings_uid_fkey foreign key (uid)
    references browser_sessions (uid) on delete cascade
);

-- What happened to people's sessions, for them to read. Rows are only ever added, and removed by age.
create table security_events (
  id          bigint      generated always as identity,
  kind        text        not null,
  account_id  text        not null,
  session_uid text,
  address     text,
  user_agent  text,
  -- A refusal's code.
  code        text,
  at          timestamptz not null default now(),
  constraint security_events_pkey primary key (id)
);

create index security_events_account_id on security_events (account_id, id);
create index security_events_at on security_events (at);

-- What a person has let in, for them to see and to end.
create index artifacts_grant_account on artifacts ((payload->>'accountId')) where kind = 'Grant';
