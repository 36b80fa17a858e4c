/** Sessions in PostgreSQL, for several processes. */
import type { Ended, Session, SessionKey, SessionStore } from './sessions.ts'

/** What is needed of a `pg` pool. */
export type PostgresClient = {
  query(query: { name: string; text: string; values: unknown[] }): Promise<{
    rows: unknown[]
    rowCount: number | null
  }>
}

/** The table, made by the first process that starts: the lock keeps others from making it as well. */
export const postgresSessionTable = `select pg_advisory_xact_lock(8116301224);
create table if not exists gate_sessions (
  id text primary key,
  application text not null,
  issuer text not null,
  subject text not null,
  sid text,
  data text not null,
  version integer not null,
  key text,
  ends_at timestamptz not null,
  idle_ends_at timestamptz not null,
  locked_until timestamptz
);
create index if not exists gate_sessions_person on gate_sessions (application, issuer, subject);
create index if not exists gate_sessions_sid on gate_sessions (application, issuer, sid);
create index if not exists gate_sessions_idle on gate_sessions (idle_ends_at)`

const statements = {
  insert: `with kept as (
  select id from gate_sessions
  where application = $2 and issuer = $3 and subject = $4 and ends_at > $10 and idle_ends_at > $10
  order by ends_at desc, id limit $11
), ended as (
  delete from gate_sessions
  where application = $2 and issuer = $3 and subject = $4 and id not in (select id from kept)
)
insert into gate_sessions
  (id, application, issuer, subject, sid, data, version, ends_at, idle_ends_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
  find: `select data, key, idle_ends_at from gate_sessions
where id = $1 and ends_at > $2 and idle_ends_at > $2`,
  touch: 'update gate_sessions set idle_ends_at = $2 where id = $1 and idle_ends_at > $3',
  bind: `update gate_sessions set key = $2
where id = $1 and (key is null
  or (key::json ->> 'method' = 'page-key' and $2::json ->> 'method' = 'dbsc'))`,
  replace: `update gate_sessions set data = $2, version = $3, sid = $4, ends_at = $5, idle_ends_at = $6
where id = $1 and version = $3 - 1`,
  end: 'delete from gate_sessions where id = $1',
  endAll: `delete from gate_sessions
where application = $1 and issuer = $2 and ($3::text is null or sid = $3)
  and ($4::text is null or subject = $4) and ($3::text is not null or $4::text is not null)
returning id`,
  lock: `update gate_sessions set locked_until = $3
where id = $1 and (locked_until is null or locked_until <= $2)`,
  unlock: 'update gate_sessions set locked_until = null where id = $1',
  sweep: 'delete from gate_sessions where ends_at <= $1 or idle_ends_at <= $1',
} as const

/**
 * Keeps sessions in PostgreSQL, one statement for each method.
 *
 * It does NOT make the table ({@link postgresSessionTable}), and it does NOT remove what has ended:
 * call `sweep` now and then.
 */
export function createPostgresSessionStore(client: PostgresClient): SessionStore {
  const run = (name: keyof typeof statements, ...values: unknown[]) =>
    client.query({ name: `gate_session_${name}`, text: statements[name], values })
  const date = (ms: number) => new Date(ms)

  return Object.freeze({
    shared: true,

    async insert(session: Session, most: number, nowMs: number) {
      const { id, application, issuer, subject, sid, version, endsAtMs, idleEndsAtMs } = session
      const ends = [date(endsAtMs), date(idleEndsAtMs), date(nowMs)]
      const row = [id, application, issuer, subject, sid ?? null, JSON.stringify(session), version]
      await run('insert', ...row, ...ends, most - 1)
    },

    async find(id: string, nowMs: number) {
      const { rows } = await run('find', id, date(nowMs))
      const [row] = rows as { data: string; key: string | null; idle_ends_at: Date }[]
      if (row === undefined) return undefined
      return {
        ...(JSON.parse(row.data) as Session),
        idleEndsAtMs: row.idle_ends_at.getTime(),
        ...(row.key !== null && { key: JSON.parse(row.key) as SessionKey }),
      }
    },

    async touch(id: string, idleEndsAtMs: number, nowMs: number) {
      await run('touch', id, date(idleEndsAtMs), date(nowMs))
    },

    async bind(id: string, key: SessionKey) {
      return (await run('bind', id, JSON.stringify(key))).rowCount === 1
    },

    async replace(session: Session) {
      const { id, version, sid, endsAtMs, idleEndsAtMs, key: _, ...rest } = session
      const data = JSON.stringify({ id, version, sid, endsAtMs, idleEndsAtMs, ...rest })
      const ends = [date(endsAtMs), date(idleEndsAtMs)]
      return (await run('replace', id, data, version, sid ?? null, ...ends)).rowCount === 1
    },

    async end(id: string) {
      await run('end', id)
    },

    async endAll({ application, issuer, sid, subject }: Ended) {
      const { rows } = await run('endAll', application, issuer, sid ?? null, subject ?? null)
      return (rows as { id: string }[]).map(({ id }) => id)
    },

    async lock(id: string, nowMs: number, untilMs: number) {
      return (await run('lock', id, date(nowMs), date(untilMs))).rowCount === 1
    },

    async unlock(id: string) {
      await run('unlock', id)
    },

    async sweep(nowMs: number) {
      await run('sweep', date(nowMs))
    },
  })
}
