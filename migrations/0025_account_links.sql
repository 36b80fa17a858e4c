-- One-time links in which a person sets a passkey or a password. A row is a digest: it opens nothing.
create table account_links (
  account_id text        not null,
  -- SHA-256 of the token in the address.
  digest     bytea       not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  -- A new link takes the place of the previous one.
  constraint account_links_pkey primary key (account_id),
  constraint account_links_digest_key unique (digest),
  constraint account_links_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);

create index account_links_expires_at on account_links (expires_at);
