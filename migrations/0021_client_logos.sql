-- Logos that administrators have uploaded, shown at consent. The metadata of a client names its own:
-- the member logo is the digest here.
create table client_logos (
  client_id text  not null,
  digest    text  not null,
  type      text  not null,
  bytes     bytea not null,
  constraint client_logos_pkey primary key (client_id),
  constraint client_logos_client_id_fkey foreign key (client_id) references clients (id)
    on delete cascade
);

create index client_logos_digest on client_logos (digest);
