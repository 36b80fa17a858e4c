-- How far a device code (RFC 8628) has come: null while nobody has typed its user code, then
-- 'in flight' while a person signs in, then 'decided'. Each step is one statement that names the
-- state it leaves; payload cannot be asked, for every json operator refuses one with U+0000 in it.
alter table artifacts add column state text;

-- When each device may ask for its tokens again. Unlogged: a crash forgets who was in a hurry, and
-- spares every device that waits a write to the log. id is the SHA-256 of the device code.
create unlogged table device_polls (
  id         bytea       not null,
  -- Seconds between two requests (RFC 8628 section 3.5).
  pause      integer     not null,
  due        timestamptz not null,
  -- Whether the last request came before it was due.
  early      boolean     not null,
  expires_at timestamptz not null,
  constraint device_polls_pkey primary key (id)
);

create index device_polls_expires_at on device_polls (expires_at);
