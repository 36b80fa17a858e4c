-- The audit trail becomes a table of months (0018). What is there now is its first part, until the
-- month after the next one, and this constraint says so: with it, 0018 attaches the table without
-- reading it. The lock is taken for an instant; while something holds the table for longer, others
-- do not wait behind this.
-- contract: rows of the release before are of its present, and satisfy the constraint.
do $$
declare
  until timestamp := date_trunc('month', now() at time zone 'UTC') + interval '2 months';
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
  execute format('alter table audit_events add constraint %I check (at < %L) not valid',
                 'audit_events_until_' || to_char(until, 'YYYY_MM'), until at time zone 'UTC');
end
$$;
