-- The document of device-bound sessions, which anybody may ask for, names the origins of these.
create index clients_federation on clients (id)
  where metadata->'session_policy'->>'federation' = 'true';
