-- Client ID metadata documents that a person has allowed, as they were when they were last fetched. A
-- document that nobody has allowed has no row.
create table client_documents (
  -- The URL that the document is at.
  client_id   text        not null,
  document    json        not null,
  -- What the host calls this version of it; null where it says nothing.
  etag        text,
  fetched_at  timestamptz not null default now(),
  -- Until when it is used without asking the host again.
  fresh_until timestamptz not null,
  expires_at  timestamptz not null,
  constraint client_documents_pkey primary key (client_id)
);

create index client_documents_expires_at on client_documents (expires_at);

-- Scopes of an API that clients may ask for which no administrator has registered or invited.
alter table resource_servers add column open_scopes text[] not null default '{}';

-- When a client goes that nobody has invited and nobody has signed in to; null for all others.
alter table client_registrations add column expires_at timestamptz;

create index client_registrations_expires_at on client_registrations (expires_at)
  where expires_at is not null;
