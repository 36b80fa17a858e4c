import type pg from 'pg'

/** Rows of one statement: what a fill shows of its progress, and what an end waits for. */
const chunk = 100_000

export interface Fill {
  /** Rows of `artifacts`, and as many of `replay_marks`. */
  readonly rows: number
  /** Seconds from now at which the first and the last of them expire. */
  readonly expire: readonly [first: number, last: number]
  /** Tells fills of one database apart. */
  readonly name: string
}

/**
 * Writes used refresh tokens and used jtis, as a busy installation has them: ids that are hashes,
 * and a payload as long as a refresh token's. They expire evenly over the time that is given.
 */
export async function fill(
  client: pg.Client,
  { rows, expire: [first, last], name }: Fill,
  onProgress: (done: number) => void = () => {},
): Promise<void> {
  const begins = (await client.query<{ now: Date }>('select now()')).rows[0]?.now
  for (let from = 0; from < rows; from += chunk) {
    onProgress(from)
    const to = Math.min(from + chunk, rows)
    const expiry = `$1::timestamptz + make_interval(secs => ${first} + n * ${(last - first) / rows}::float8)`
    await client.query(
      `insert into replay_marks (id, expires_at)
       select sha256(convert_to('${name} mark ' || n, 'UTF8')), ${expiry}
         from generate_series(${from}, ${to - 1}) as n`,
      [begins],
    )
    await client.query(
      `insert into artifacts (kind, id, grant_id, account_id, family_id, payload, expires_at, consumed_at)
       select 'RefreshToken', sha256(convert_to('${name} token ' || n, 'UTF8')),
              '${name}-grant-' || n / 20, 'account-' || n / 40, '${name}-family-' || n / 20,
              json_build_object('kind', 'RefreshToken', 'filled', repeat('x', 450)), ${expiry}, now()
         from generate_series(${from}, ${to - 1}) as n`,
      [begins],
    )
  }
}

/**
 * Writes to tables that nobody uses meanwhile without their indexes, which are made anew from the rows:
 * ten million random keys, one after the other, would take most of an hour.
 */
export async function withoutIndexes(
  client: pg.Client,
  tables: readonly string[],
  write: () => Promise<void>,
): Promise<void> {
  const { rows: found } = await client.query<{ drop: string; make: string }>(
    `select case when conname is null then format('drop index %s', indexrelid::regclass)
                 else format('alter table %s drop constraint %I', indrelid::regclass, conname)
            end as drop,
            case when conname is null then pg_get_indexdef(indexrelid)
                 else format('alter table %s add constraint %I %s', indrelid::regclass, conname,
                             pg_get_constraintdef(pg_constraint.oid))
            end as make
       from pg_index left join pg_constraint on conindid = indexrelid and contype in ('p', 'u')
      where indrelid = any ($1::regclass[])`,
    [tables],
  )
  for (const { drop } of found) await client.query(drop)
  await write()
  await client.query("set maintenance_work_mem = '512MB'")
  for (const { make } of found) await client.query(make)
  await client.query('reset maintenance_work_mem')
}

/** Plans and visibility as after a night of autovacuum, and nothing left to write. */
export async function settle(client: pg.Client): Promise<void> {
  for (const table of ['artifacts', 'replay_marks']) await client.query(`vacuum (analyze) ${table}`)
  await client.query('checkpoint')
}

export interface TableSize {
  readonly rows: number
  readonly bytes: number
  /** Expired for longer than cleanup may take. */
  readonly backlog: number
}

/** Both tables together. Rows as PostgreSQL estimates them. */
export async function sizeOf(client: pg.Client, graceS: number): Promise<TableSize> {
  const { rows } = await client.query<TableSize>(
    `select sum(n_live_tup)::float8 as rows, sum(pg_total_relation_size(relid))::float8 as bytes,
            (select count(*) from artifacts
              where expires_at < now() - make_interval(secs => $1))::float8
            + (select count(*) from replay_marks
                where expires_at < now() - make_interval(secs => 60 + $1))::float8 as backlog
       from pg_stat_user_tables where relname in ('artifacts', 'replay_marks')`,
    [graceS],
  )
  return rows[0] as TableSize
}
