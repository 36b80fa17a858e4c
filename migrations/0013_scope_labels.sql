-- A sentence for each scope of an API, shown where users are asked for consent: {"scope": "sentence"}.
alter table resource_servers add column scope_labels jsonb not null default '{}';
