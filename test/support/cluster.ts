import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbeddedPostgres } from '../../src/storage/embedded-postgres.ts'

export interface TestCluster extends AsyncDisposable {
  readonly connectionString: string
}

/** The PostgreSQL of this test run, or one of its own for a test file that runs alone. */
export async function openTestCluster(): Promise<TestCluster> {
  const given = process.env.HOLDFAST_TEST_CLUSTER
  if (given) return { connectionString: given, [Symbol.asyncDispose]: async () => {} }
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-test-'))
  // Root's PostgreSQL runs as another user, who must get in.
  await chmod(folder, 0o755)
  const postgres = await startEmbeddedPostgres({ folder, disposable: true })
  return {
    connectionString: postgres.connectionString,
    async [Symbol.asyncDispose]() {
      await postgres[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
