-- What an account says of its person: the claims of the scopes profile and groups, and attributes of
-- the installation's own for custom claims.
alter table accounts
  add column profile jsonb not null default '{}',
  add column groups text[] not null default '{}',
  add column attributes jsonb not null default '{}',
  add column updated_at timestamptz;

-- Claims that an administrator adds, as one document: a list of mappings.
create table claim_mappings (
  id boolean constraint claim_mappings_pkey primary key default true,
  mappings jsonb not null,
  constraint claim_mappings_one check (id)
);
