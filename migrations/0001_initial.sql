-- Everything the engine keeps for a while: sessions, interactions, grants, codes, tokens, pushed
-- requests. Identifiers that are credentials are kept as SHA-256 only, so that a reader of this
-- table (a backup, a replica, an injection) holds nothing that can be presented to the server.
-- payload is json and not jsonb: nothing looks into it, and jsonb refuses strings that a request
-- may well carry (U+0000 in a state parameter).
create table artifacts (
  kind        text        not null,
  id          bytea       not null,
  grant_id    text,
  uid         text,
  payload     json        not null,
  expires_at  timestamptz not null,
  consumed_at timestamptz,
  constraint artifacts_pkey primary key (kind, id),
  constraint artifacts_id_is_sha256 check (octet_length(id) = 32)
);

create index artifacts_grant_id on artifacts (grant_id) where grant_id is not null;
create index artifacts_uid on artifacts (kind, uid) where uid is not null;
create index artifacts_expires_at on artifacts (expires_at);

-- One row for each one-time value that was seen: DPoP proof and client assertion identifiers.
create table replay_marks (
  id         bytea       not null,
  expires_at timestamptz not null,
  constraint replay_marks_pkey primary key (id),
  constraint replay_marks_id_is_sha256 check (octet_length(id) = 32)
);

create index replay_marks_expires_at on replay_marks (expires_at);

create table accounts (
  id            text        not null,
  email         text        not null,
  name          text,
  password_hash text        not null,
  disabled_at   timestamptz,
  created_at    timestamptz not null default now(),
  constraint accounts_pkey primary key (id),
  constraint accounts_email_key unique (email)
);

-- metadata is RFC 7591 client metadata; a client_secret in it is 'sha256:' and a digest.
create table clients (
  id         text        not null,
  metadata   jsonb       not null,
  created_at timestamptz not null default now(),
  constraint clients_pkey primary key (id)
);

-- APIs that may be named by the resource parameter (RFC 8707).
create table resource_servers (
  identifier text        not null,
  name       text,
  scopes     text[]      not null,
  created_at timestamptz not null default now(),
  constraint resource_servers_pkey primary key (identifier)
);

-- jwe is the private JWK, encrypted (RFC 7516, dir and A256GCM) under a key derived from
-- HOLDFAST_SECRET.
create table signing_keys (
  kid        text        not null,
  alg        text        not null,
  generation integer     not null,
  jwe        text        not null,
  created_at timestamptz not null default now(),
  constraint signing_keys_pkey primary key (kid),
  -- Servers that start together on an empty database make one first key of each algorithm.
  constraint signing_keys_generation_key unique (alg, generation)
);
