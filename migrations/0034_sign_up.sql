-- Codes that let people make accounts for themselves. A row is a digest: it invites nobody.
create table invitations (
  -- SHA-256 of the code, which names the invitation.
  digest     bytea       not null,
  name       text        not null,
  -- Of every account that is made by it.
  groups     text[]      not null default '{}',
  uses       integer     not null,
  uses_left  integer     not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint invitations_pkey primary key (digest),
  constraint invitations_uses_left check (uses_left between 0 and uses)
);

create index invitations_expires_at on invitations (expires_at);

-- Accounts that someone has asked for, until they confirm the address by the link that was mailed to
-- it. A row is made as the mail is sent.
create table sign_ups (
  -- SHA-256 of the token in the link.
  digest     bytea       not null,
  -- In its canonical form.
  email      text        not null,
  invitation bytea,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint sign_ups_pkey primary key (digest),
  constraint sign_ups_invitation_fkey foreign key (invitation) references invitations (digest) on delete cascade
);

create index sign_ups_expires_at on sign_ups (expires_at);
create index sign_ups_invitation on sign_ups (invitation) where invitation is not null;
