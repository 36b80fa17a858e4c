import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import type { ServingNode } from '../serving-node.ts'
import { openPostgresMeter } from '../token/postgres-cpu.ts'

/** Rows and bytes, indexes included. */
export interface Grown {
  readonly rows: number
  readonly bytes: number
}

/** What so many of one operation left behind and took, divided by their number. */
export interface Cost {
  readonly count: number
  /** By table, and the rows of `artifacts` by their kind: `artifacts: RefreshToken`. */
  readonly tables: Readonly<Record<string, Grown>>
  /** Each is a transaction. What comes at once shares them. */
  readonly statements: number
  /** Write-ahead log right after a checkpoint: whole pages are most of it. */
  readonly walBytes: number
  readonly nodeCpuMs: number
  readonly postgresCpuMs: number
}

/** Milliseconds after which what is written beside the requests is there: counts take the longest. */
const settleMs = 6_000

const sizes = `
  select coalesce(pg_partition_root(oid), oid)::regclass::text as name,
         sum(pg_total_relation_size(oid))::float8 as bytes,
         sum((xpath('/row/c/text()', query_to_xml(
           format('select count(*) as c from %s', oid::regclass), false, true, '')))[1]::text::float8)
           as rows
    from pg_class
   where relkind = 'r' and relnamespace = 'public'::regnamespace
   group by 1`

const kinds = `select 'artifacts: ' || kind as name, count(*)::float8 as rows from artifacts group by kind`

const activity = `
  select (xact_commit + xact_rollback)::float8 as statements, wal_bytes::float8 as wal
    from pg_stat_database, pg_stat_wal where datname = current_database()`

/** Measures what operations on a node cost it and its database. */
export async function openMeter(node: ServingNode, databaseUrl: string) {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const cpu = await openPostgresMeter(databaseUrl)

  async function look() {
    const { rows: tables } = await client.query<Grown & { name: string }>(sizes)
    const { rows: byKind } = await client.query<{ name: string; rows: number }>(kinds)
    return { tables, byKind }
  }

  async function lookAtActivity() {
    const { rows } = await client.query<{ statements: number; wal: number }>(activity)
    return rows[0] ?? { statements: 0, wal: 0 }
  }

  return {
    async measure(count: number, work: () => Promise<void>): Promise<Cost> {
      const before = await look()
      await client.query('checkpoint')
      await setTimeout(settleMs)
      const begun = await lookAtActivity()
      const usage = await node.usage()
      await cpu.lap()
      await work()
      const nodeCpuMs = ((await node.usage()).cpu - usage.cpu) / 1000 / count
      await setTimeout(settleMs)
      const postgresCpuMs = (await cpu.lap()) / 1000 / count
      const ended = await lookAtActivity()
      const walBytes = (ended.wal - begun.wal) / count
      return {
        count,
        tables: grownBy(before, await look(), count),
        statements: (ended.statements - begun.statements) / count,
        walBytes,
        nodeCpuMs,
        postgresCpuMs,
      }
    },
    async [Symbol.asyncDispose]() {
      await cpu[Symbol.asyncDispose]()
      await client.end()
    },
  }
}

type Seen = {
  readonly tables: readonly (Grown & { readonly name: string })[]
  readonly byKind: readonly { readonly name: string; readonly rows: number }[]
}

/** By table; the bytes of `artifacts` by the rows of each kind. */
function grownBy(before: Seen, after: Seen, count: number): Record<string, Grown> {
  const kindsGrown = growth(before.byKind, after.byKind)
  const artifactRows = kindsGrown.reduce((sum, { by }) => sum + by, 0)
  return Object.fromEntries(
    growth(before.tables, after.tables).flatMap(({ name, by }) => {
      const last = before.tables.find((each) => each.name === name)
      const bytes =
        (after.tables.find((each) => each.name === name)?.bytes ?? 0) - (last?.bytes ?? 0)
      if (name !== 'artifacts') return by > 0 || bytes > 0 ? [[name, per(by, bytes, count)]] : []
      return kindsGrown.map((kind) => [
        kind.name,
        per(kind.by, (bytes * kind.by) / artifactRows, count),
      ])
    }),
  )
}

const per = (rows: number, bytes: number, count: number): Grown => ({
  rows: rows / count,
  bytes: bytes / count,
})

function growth(
  before: readonly { readonly name: string; readonly rows: number }[],
  after: readonly { readonly name: string; readonly rows: number }[],
) {
  return after
    .map(({ name, rows }) => ({
      name,
      by: Math.max(0, rows - (before.find((each) => each.name === name)?.rows ?? 0)),
    }))
    .filter(({ name, by }) => by > 0 || name === 'artifacts')
}
