-- Types of authorization details (RFC 9396) that an API understands, with their members as JSON.
create table authorization_details_types (
  type text primary key,
  resource text not null references resource_servers on delete cascade,
  definition json not null
);
create index authorization_details_types_resource on authorization_details_types (resource);
