-- The passkeys (WebAuthn credentials) of people. A row is a public key: it signs nobody in.
create table passkeys (
  id              uuid        not null default gen_random_uuid(),
  account_id      text        not null,
  -- At most 1023 bytes (WebAuthn Level 3 section 4), chosen by the authenticator.
  credential_id   bytea       not null,
  -- COSE (RFC 9053).
  public_key      bytea       not null,
  sign_count      bigint      not null,
  transports      text[]      not null,
  aaguid          uuid        not null,
  name            text        not null,
  backup_eligible boolean     not null,
  backed_up       boolean     not null,
  created_at      timestamptz not null default now(),
  last_used_at    timestamptz,
  constraint passkeys_pkey primary key (id),
  constraint passkeys_credential_id_key unique (credential_id),
  constraint passkeys_credential_id_is_short check (octet_length(credential_id) between 1 and 1023),
  constraint passkeys_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);

create index passkeys_account_id on passkeys (account_id);

-- How the person of a session was authenticated (RFC 8176); null where an older release signed in.
alter table browser_sessions add column amr text[];
