import { readFile, stat } from 'node:fs/promises'
import pg from 'pg'

export interface TableSize {
  readonly rows: number
  readonly bytes: number
}

/** What the server and its database have taken so far. */
export interface Usage {
  readonly tables: Readonly<Record<string, TableSize>>
  readonly walBytes: number
  readonly logBytes: number
  readonly cpuSeconds: number
  /** For which its main thread was ready to run, and others had the cores. */
  readonly cpuWaitSeconds: number
  readonly rssBytes: number
}

interface Measured {
  readonly databaseUrl: string
  readonly pid: number
  readonly logFile: string
}

/** Looks at a server by Linux's `/proc`, and at its database by a connection of its own. */
export async function openMeter({ databaseUrl, pid, logFile }: Measured) {
  const database = new pg.Client({ connectionString: databaseUrl })
  await database.connect()
  return {
    async look(): Promise<Usage> {
      const { rows } = await database.query(
        `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`,
      )
      return {
        tables: await tableSizes(database),
        walBytes: rows[0].bytes,
        logBytes: (await stat(logFile)).size,
        cpuSeconds: await cpuSeconds(pid),
        cpuWaitSeconds: await cpuWaitSeconds(pid),
        rssBytes: await residentBytes(pid),
      }
    },
    [Symbol.asyncDispose]: () => database.end(),
  }
}

async function tableSizes(database: pg.Client): Promise<Record<string, TableSize>> {
  const { rows } = await database.query<{ name: string; bytes: number }>(
    `select quote_ident(relname) as name, pg_total_relation_size(oid)::float8 as bytes
       from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
      order by relname`,
  )
  const tables: Record<string, TableSize> = {}
  for (const { name, bytes } of rows) {
    const counted = await database.query(`select count(*)::float8 as rows from ${name}`)
    tables[name] = { rows: counted.rows[0].rows, bytes }
  }
  return tables
}

/** Of a process that has ended: nothing. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024
}

/** All threads: user and system time are fields 14 and 15 of proc(5)'s stat, in hundredths. */
async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11] ?? Number.NaN) + Number(fields[12] ?? Number.NaN)) / 100
}

/** The second field of schedstat, in nanoseconds. */
async function cpuWaitSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => '')
  return Number(text.split(' ')[1] ?? Number.NaN) / 1e9
}
