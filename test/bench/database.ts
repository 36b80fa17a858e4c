import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'

export interface BenchDatabase extends AsyncDisposable {
  /** An empty folder, which ends with the database. */
  readonly folder: string
  readonly connectionString: string
}

/** A PostgreSQL of its own, which keeps every commit; with `pg_stat_statements` when asked for. */
export async function openBenchDatabase({
  countsStatements = false,
}: {
  countsStatements?: boolean
} = {}): Promise<BenchDatabase> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(folder, 0o755)
  if (countsStatements) {
    await using first = await startEmbeddedPostgres({ folder })
    const client = new pg.Client({ connectionString: first.connectionString })
    await client.connect()
    await client.query("alter system set shared_preload_libraries = 'pg_stat_statements'")
    await client.end()
  }
  const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))
  const open = opened.move()
  return { folder, connectionString, [Symbol.asyncDispose]: () => open.disposeAsync() }
}
