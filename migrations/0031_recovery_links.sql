-- One-time links that were mailed to someone who forgot how to sign in. A row is a digest: it opens
-- nothing. They are beside account_links, so that no stranger ends the link of an operator.
create table recovery_links (
  account_id text        not null,
  -- SHA-256 of the token in the address.
  digest     bytea       not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint recovery_links_pkey primary key (account_id, digest),
  constraint recovery_links_digest_key unique (digest),
  constraint recovery_links_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);

create index recovery_links_expires_at on recovery_links (expires_at);
