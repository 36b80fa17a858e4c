-- The audit trail in parts by month, so that a month that an operator does not keep is dropped, and
-- not removed row by row. Each part has indexes of its own: ids come from one sequence and are
-- unique by it. There is no part for rows of any time: rows with the time of a wrong clock get the
-- nearest that can be right (src/storage/audit-table.ts).
-- contract: the release before writes and reads audit_events by the same statements.

-- Makes the months from the last one to `ahead` months from now, and drops those that ended more than
-- `retention_days` days ago; null keeps all. It runs as the owner of the table, so that a server needs
-- no more than to insert and read: like the trigger it lets go of nothing that is younger than 90 days.
create function keep_audit_months(ahead integer, retention_days integer)
returns table (made text[], dropped text[])
language plpgsql security definer
set lock_timeout = '1s'
as $$
declare
  this_month timestamp := date_trunc('month', now() at time zone 'UTC');
  month timestamp;
  part text;
begin
  made := '{}';
  dropped := '{}';
  -- Another node is at it.
  if not pg_try_advisory_xact_lock(4815162344) then
    return next;
    return;
  end if;
  for month in select generate_series(this_month - interval '1 month',
                                      this_month + make_interval(months => ahead),
                                      interval '1 month') loop
    part := 'audit_events_' || to_char(month, 'YYYY_MM');
    continue when exists (
      select from pg_inherits join pg_class on pg_class.oid = inhrelid
       where inhparent = 'audit_events'::regclass
         and (relname = part
              or relname ~ '^audit_events_until_\d{4}_\d\d$'
                 and right(relname, 7) > to_char(month, 'YYYY_MM')));
    execute format('create table %I (like audit_events)', part);
    execute format('alter table %I add constraint %I primary key (id)', part, part || '_pkey');
    execute format('create index %I on %I (at)', part || '_at', part);
    execute format('create index %I on %I (account, id) where account is not null',
                   part || '_account', part);
    execute format('create trigger audit_events_no_truncate before truncate on %I
                    for each statement execute function refuse_audit_change()', part);
    -- Unlike "create table … partition of" this keeps no insert waiting.
    execute format('alter table audit_events attach partition %I for values from (%L) to (%L)',
                   part, month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
    made := made || part;
  end loop;
  for part in
    select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhparent = 'audit_events'::regclass
       and relname ~ '^audit_events_(until_|)\d{4}_\d\d$'
       and (to_date(right(relname, 7), 'YYYY_MM')::timestamp
            + case when relname like '%until%' then interval '0' else interval '1 month' end)
             at time zone 'UTC'
           <= now() - make_interval(days => greatest(retention_days, 90))
       and retention_days is not null
  loop
    begin
      execute format('drop table %I', part);
      dropped := dropped || part;
    exception when lock_not_available then
      -- Someone reads it: the next time, then.
      null;
    end;
  end loop;
  return next;
end
$$;

do $$
declare
  first_part name := (select conname from pg_constraint
                       where conrelid = 'audit_events'::regclass
                         and conname like 'audit\_events\_until\_%');
  next_id bigint;
  granted record;
begin
  for attempt in 1..600 loop
    begin
      set local lock_timeout = '200ms';
      lock table audit_events in access exclusive mode;
      exit;
    exception when lock_not_available then
      if attempt = 600 then raise; end if;
      perform pg_sleep(0.3);
    end;
  end loop;
  execute format('select last_value + is_called::int from %s',
                 pg_get_serial_sequence('audit_events', 'id')) into next_id;
  execute format('alter table audit_events rename to %I', first_part);
  execute format('alter table %I alter column id drop identity', first_part);
  execute format('drop trigger audit_events_append_only on %I', first_part);

  create table audit_events (
    id         bigint      not null generated always as identity,
    at         timestamptz not null,
    event      text        not null,
    actor      text,
    account    text,
    client     text,
    address    text,
    request_id text,
    details    json        not null
  ) partition by range (at);
  execute format('alter table audit_events alter column id restart with %s', next_id);
  create trigger audit_events_append_only before update or delete on audit_events
    for each row execute function refuse_audit_change();
  execute format('alter table audit_events attach partition %I for values from (minvalue) to (%L)',
                 first_part, to_date(right(first_part, 7), 'YYYY_MM')::timestamp at time zone 'UTC');

  -- Those who could use the table still can.
  execute format('alter table audit_events owner to %I',
                 (select pg_get_userbyid(relowner) from pg_class where oid = first_part::regclass));
  for granted in
    select privilege_type, grantee, is_grantable
      from pg_class, aclexplode(relacl)
     where pg_class.oid = first_part::regclass and grantee <> relowner
  loop
    execute format('grant %s on audit_events to %s%s', granted.privilege_type,
                   case when granted.grantee = 0 then 'public'
                        else quote_ident(pg_get_userbyid(granted.grantee)) end,
                   case when granted.is_grantable then ' with grant option' else '' end);
  end loop;
  execute format('alter function keep_audit_months set search_path = %I, pg_temp', current_schema());
end
$$;

select keep_audit_months(3, null);
