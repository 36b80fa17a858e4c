-- Code apps (TOTP, RFC 6238) and recovery codes: second factors beside a password.
create table code_apps (
  account_id text        not null,
  -- A JWE, which the secret of the installation opens.
  sealed     text        not null,
  -- The last time step whose code was used: none before it counts again.
  last_step  bigint      not null,
  created_at timestamptz not null default now(),
  constraint code_apps_pkey primary key (account_id),
  constraint code_apps_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);

create table recovery_codes (
  account_id text  not null,
  -- SHA-256: a code is 120 random bits.
  digest     bytea not null,
  constraint recovery_codes_pkey primary key (account_id, digest),
  constraint recovery_codes_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);
