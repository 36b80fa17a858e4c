-- Mail that is to be sent. What holds a link is sealed; of a change that a person is told of the row
-- says what the table security_events says.
create table mail_deliveries (
  id         bigint      not null generated always as identity,
  -- The account, or a digest of the address. Of one lane a few are sent at a time.
  lane       text        not null,
  -- What bounds how many wait: 'stranger', 'known' or 'notice'.
  origin     text        not null,
  account_id text,
  -- A JWE, which the secret of the installation opens.
  sealed     text,
  notice     jsonb,
  attempts   smallint    not null default 0,
  due_at     timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint mail_deliveries_pkey primary key (id),
  constraint mail_deliveries_content check ((sealed is null) <> (notice is null))
);

create index mail_deliveries_due_at on mail_deliveries (lane, due_at);
create index mail_deliveries_origin on mail_deliveries (origin);
create index mail_deliveries_expires_at on mail_deliveries (expires_at);

-- One row while the servers send mail: otherwise no notice is queued.
create table mail_senders (
  id boolean not null default true,
  constraint mail_senders_pkey primary key (id),
  constraint mail_senders_one check (id)
);

-- A trigger, so that no statement that changes a credential can forget it, whatever release it is of.
-- A browser is new if none of the latest sign-ins had its name, versions aside.
create function queue_notices() returns trigger language plpgsql as $$
begin
  if not exists (select from mail_senders) then
    return null;
  end if;
  if new.kind = 'signed_in' then
    perform from (select user_agent from security_events
                   where account_id = new.account_id and kind = 'signed_in' and id < new.id
                   order by id desc limit 50) as earlier
    having count(*) = 0 or bool_or(
           regexp_replace(coalesce(user_agent, ''), '[0-9.]+', '', 'g')
         = regexp_replace(coalesce(new.user_agent, ''), '[0-9.]+', '', 'g'));
    if found then
      return null;
    end if;
  end if;
  insert into mail_deliveries (lane, origin, account_id, notice, expires_at)
  select new.account_id, 'notice', new.account_id,
         jsonb_build_object('kind', new.kind, 'at', new.at, 'address', new.address,
                            'userAgent', new.user_agent),
         now() + interval '1 day'
   where (select count(*) from (select from mail_deliveries
                                 where lane = new.account_id limit 20) as waiting) < 20
     and (select count(*) from (select from mail_deliveries
                                 where origin = 'notice' limit 10000) as waiting) < 10000;
  return null;
end
$$;

create trigger security_events_notice after insert on security_events
  for each row
  when (new.kind in ('signed_in', 'password_changed', 'own_password_changed', 'account_reset',
                     'passkey_added', 'passkey_removed', 'passkey_counter_refused',
                     'code_app_set_up', 'code_app_removed', 'recovery_codes_replaced',
                     'recovery_code_used'))
  execute function queue_notices();
