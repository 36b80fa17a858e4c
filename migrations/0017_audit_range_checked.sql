-- Reads the whole table, beside all readers and writers.
do $$
begin
  execute (select format('alter table audit_events validate constraint %I', conname)
             from pg_constraint
            where conrelid = 'audit_events'::regclass and conname like 'audit\_events\_until\_%');
end
$$;
