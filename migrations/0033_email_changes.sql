-- A change of the email of an account, until someone confirms it by the link that was mailed to the
-- new address. A row is a digest: it opens nothing.
create table email_changes (
  account_id text        not null,
  -- SHA-256 of the token in the link.
  digest     bytea       not null,
  -- The new address, in its canonical form.
  email      text        not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  -- A new change takes the place of the previous one.
  constraint email_changes_pkey primary key (account_id),
  constraint email_changes_digest_key unique (digest),
  constraint email_changes_account_id_fkey foreign key (account_id) references accounts (id) on delete cascade
);

create index email_changes_expires_at on email_changes (expires_at);

-- A trigger, so that no statement that changes a credential can forget it, whatever release it is of.
create function end_email_changes() returns trigger language plpgsql as $$
begin
  delete from email_changes where account_id = new.account_id;
  return null;
end
$$;

create trigger security_events_end_email_changes after insert on security_events
  for each row
  when (new.kind in ('password_changed', 'own_password_changed', 'account_reset', 'account_disabled',
                     'passkey_removed', 'code_app_set_up', 'code_app_removed', 'email_changed',
                     'all_sessions_ended', 'other_sessions_ended'))
  execute function end_email_changes();
