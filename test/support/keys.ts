import {
  type KeyChange,
  type KeyRing,
  type KeyRingOptions,
  openKeyRing,
} from '../../src/keys/key-ring.ts'
import { openDatabase } from '../../src/storage/database.ts'
import { createSigningKeyTable, type SigningKeyTable } from '../../src/storage/signing-key-table.ts'
import { query } from './query.ts'
import { takeKey } from './ready-keys.ts'

export const secret = 'the secret of this installation, long enough'

const day = 86_400_000

/** Milliseconds. */
export const policy = { rotation: 90 * day, publish: day, keep: 14 * day }

export interface TestRing extends KeyRing {
  readonly table: SigningKeyTable
  readonly changes: readonly KeyChange[]
}

/** The keys of one node, with connections of its own. */
export async function openRing(
  opened: AsyncDisposableStack,
  url: string,
  options: Partial<KeyRingOptions> = {},
): Promise<TestRing> {
  // Tests share a busy machine.
  const connection = { onError: () => {}, poolSize: 2, connectionTimeout: 60_000 }
  const database = opened.use(await openDatabase(url, connection))
  const table = createSigningKeyTable(database)
  const changes: KeyChange[] = []
  const onChange = (change: KeyChange) => changes.push(change)
  const ring = await openKeyRing({
    table,
    secrets: [secret],
    policy,
    onChange,
    makeKey: takeKey,
    ...options,
  })
  return { ...ring, table, changes }
}

/** Moves all keys into the past: for them it is so much later. */
export async function letDaysPass(url: string, days: number): Promise<void> {
  const columns = ['created_at', 'signs_from', 'retired_at']
  const moved = columns.map((column) => `${column} = ${column} - interval '${days} days'`)
  await query(url, `update signing_keys set ${moved.join(', ')}`)
}
