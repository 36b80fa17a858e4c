import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'

export interface BenchDatabase extends AsyncDisposable {
  /** An empty folder, which ends with the database. */
  readonly folder: string
  readonly connectionString: string
}

/** A PostgreSQL of its own, which keeps every commit. */
export async function openBenchDatabase(): Promise<BenchDatabase> {
  await using opened = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-bench-'))
  opened.defer(() => rm(folder, { recursive: true, force: true }))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(folder, 0o755)
  const { connectionString } = opened.use(await startEmbeddedPostgres({ folder }))
  const open = opened.move()
  return { folder, connectionString, [Symbol.asyncDispose]: () => open.disposeAsync() }
}
