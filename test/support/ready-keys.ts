import { makeKey } from '../../src/keys/key-purpose.ts'
import type { KeyRingOptions } from '../../src/keys/key-ring.ts'

type MakeKey = NonNullable<KeyRingOptions['makeKey']>
type Key = Awaited<ReturnType<MakeKey>>

/** RSA keys take a tenth of a second each, and every server of the tests makes two. */
const purposes = ['RS256', 'PS256'] as const

/** So many of each purpose; a test file that needs more makes them. */
const count = 6

/** Makes keys that the test files of a run share, as the text of `HOLDFAST_TEST_KEYS`. */
export async function makeReadyKeys(): Promise<string> {
  const made = purposes.flatMap((purpose) => Array.from({ length: count }, () => makeKey(purpose)))
  return JSON.stringify(await Promise.all(made))
}

const ready = JSON.parse(process.env.HOLDFAST_TEST_KEYS ?? '[]') as Key[]

/** A key that this test file has not had: one that is ready, or a new one. */
export const takeKey: MakeKey = async (purpose) => {
  const at = ready.findIndex(({ alg }) => alg === purpose)
  const [taken] = at < 0 ? [] : ready.splice(at, 1)
  return taken ?? makeKey(purpose)
}
