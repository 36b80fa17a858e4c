-- Dynamic client registration (RFC 7591, RFC 7592). Tokens are kept as SHA-256 only.

-- What lets somebody register clients: made by an administrator, for a number of uses.
create table initial_access_tokens (
  id         bytea       not null,
  name       text        not null,
  -- What a client that is registered with it may be.
  policy     jsonb       not null,
  -- Whether it may come without a proof of a key.
  bearer     boolean     not null,
  -- RFC 7638 thumbprint of the one key that may use it; null for any key.
  jkt        text,
  uses       integer     not null,
  uses_left  integer     not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint initial_access_tokens_pkey primary key (id),
  constraint initial_access_tokens_id_is_sha256 check (octet_length(id) = 32),
  constraint initial_access_tokens_uses_left check (uses_left between 0 and uses)
);

create index initial_access_tokens_expires_at on initial_access_tokens (expires_at);

-- Clients that came by registration. The policy is a copy: what a client may become does not change
-- with the token that it came by, which is used up and removed.
create table client_registrations (
  client_id     text        not null,
  -- SHA-256 of the registration access token.
  token_id      bytea       not null,
  -- The key that the registration access token is bound to; null for a bearer token.
  jkt           text,
  policy        jsonb       not null,
  -- The name of the initial access token.
  came_by       text        not null,
  registered_at timestamptz not null default now(),
  constraint client_registrations_pkey primary key (client_id),
  constraint client_registrations_client_id_fkey foreign key (client_id)
    references clients (id) on delete cascade,
  constraint client_registrations_token_id_is_sha256 check (octet_length(token_id) = 32)
);
