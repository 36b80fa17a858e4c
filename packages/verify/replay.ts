/** One-time use of what may be seen once, and the store that keeps it in memory. */
import { hash, randomBytes } from 'node:crypto'
import { VerifyError } from './errors.ts'
import { checkNames, namesOf, optionalMethods } from './lib/check.ts'

/**
 * What became of an entry: it is new, it was there before, or there is no room to remember it.
 * `full` refuses the request: a store that forgets inside the window would let a replay through.
 */
export type ReplayOutcome = 'fresh' | 'replayed' | 'full'

/** Remembers entries until they no longer matter. One atomic operation: look and record. */
export interface ReplayStore {
  /** Whether every replica of a service sees the same entries. */
  readonly shared: boolean
  /**
   * Records `key` and says whether it was there.
   *
   * @param key - any text; unique to what must not be repeated.
   * @param expiresAt - seconds since the epoch; the entry must be kept until then.
   * @param now - seconds since the epoch.
   */
  consume(key: string, expiresAt: number, now: number): ReplayOutcome | Promise<ReplayOutcome>
}

/**
 * Nothing is used twice, and nothing that cannot be remembered.
 *
 * @throws {@link VerifyError} `code`, `replay_store_full`
 */
export function checkOutcome(
  outcome: ReplayOutcome,
  code: 'dpop_replayed' | 'ticket_replayed' | 'gate_replayed',
  what: string,
): void {
  if (outcome === 'full') {
    throw new VerifyError('replay_store_full', `No room to remember another ${what}`)
  }
  if (outcome !== 'fresh') throw new VerifyError(code, `${what} was used before`)
}

/** The refusal of a request whose entry could not be recorded. */
export function storeFailed(cause: unknown): VerifyError {
  return new VerifyError('replay_store_unavailable', 'Replays cannot be ruled out now', { cause })
}

/**
 * The store of the options, or one in memory. A store of one process does not know what others have
 * used: several replicas need a shared one.
 *
 * @throws TypeError
 */
export function replayStoreOf({
  replay,
  replicas = 1,
}: Readonly<{ replay?: ReplayStore; replicas?: number }>): ReplayStore {
  optionalMethods('replay', replay, ['consume'])
  if (!Number.isInteger(replicas) || replicas < 1) {
    throw new TypeError('replicas must be a positive integer')
  }
  if (replicas > 1 && replay?.shared !== true) {
    throw new TypeError('replicas: more than one needs a shared replay store')
  }
  return replay ?? createMemoryReplayStore()
}

/** Options of {@link createMemoryReplayStore}. */
export type MemoryReplayOptions = Readonly<{
  /**
   * How many live entries are held for certain. All memory is taken at once, 16.4 bytes each, and
   * none later. Default 250,000: three thousand requests a second for 80 seconds.
   */
  capacity?: number
  /** Source of the key that hides from clients where their entries lie. */
  randomBytes?: (size: number) => Uint8Array
}>

const replayOptions = namesOf<MemoryReplayOptions>({ capacity: true, randomBytes: true })

/** A store in the memory of one process: fast, of fixed size, and gone with the process. */
export interface MemoryReplayStore extends ReplayStore {
  readonly shared: false
  consume(key: string, expiresAt: number, now: number): ReplayOutcome
  readonly capacity: number
  /** Size of the table; it never changes. */
  readonly bytes: number
}

const slots = 16
/** A bucket is three lines of cache: low words of all its fingerprints, high words, expiries. */
const high = slots
const expiry = 2 * slots
const wordsPerBucket = 3 * slots
/** Share of the slots that counts as capacity: above it two buckets may be full by chance. */
const load = 0.73

/**
 * Makes a replay store in one typed array.
 *
 * Each entry is a 64-bit keyed fingerprint and an expiry, in the emptier of two buckets that the
 * fingerprint selects. With two choices and 16 slots a bucket overflows only when the whole table
 * is nearly full, an expired slot is taken again where it lies, and nothing is ever moved, swept or
 * allocated. Two different entries look equal once in 10^13 at the default capacity; then a client
 * is asked for a new proof. The key is random, so that nobody can aim at a bucket.
 *
 * It does NOT survive a restart and is NOT seen by other processes: use a shared store for
 * several replicas.
 *
 * @example
 * ```ts
 * const replay = createMemoryReplayStore({ capacity: 1_000_000 })
 * replay.consume('key', 1_700_000_060, 1_700_000_000) // 'fresh'
 * replay.consume('key', 1_700_000_060, 1_700_000_001) // 'replayed'
 * ```
 */
export function createMemoryReplayStore(options: MemoryReplayOptions = {}): MemoryReplayStore {
  checkNames('options', options, replayOptions)
  const { capacity = 250_000, randomBytes: random = randomBytes } = options
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > 100_000_000) {
    throw new TypeError('capacity must be an integer from 1 to 100,000,000')
  }
  const buckets = Math.max(2, Math.ceil(capacity / load / slots))
  const table = new Uint32Array(buckets * wordsPerBucket)
  const secret = Buffer.from(random(16)).toString('base64url')

  /** Whether the bucket at `start` holds a live entry of this fingerprint. */
  function holds(start: number, low: number, rest: number, now: number): boolean {
    for (let at = start; at < start + slots; at++) {
      if (table[at] === low && table[at + high] === rest && (table[at + expiry] as number) >= now) {
        return true
      }
    }
    return false
  }

  /** How many slots of the bucket at `start` are free: never used, or expired. */
  function countFree(start: number, now: number): number {
    let free = 0
    for (let at = start + expiry; at < start + wordsPerBucket; at++) {
      if ((table[at] as number) < now) free++
    }
    return free
  }

  return Object.freeze({
    shared: false as const,
    capacity,
    bytes: table.byteLength,

    consume(key: string, expiresAt: number, now: number): ReplayOutcome {
      const digest = hash('sha256', secret + key, 'binary')
      const low = word(digest, 0)
      const rest = word(digest, 4)
      const first = (word(digest, 8) % buckets) * wordsPerBucket
      const second = (word(digest, 12) % buckets) * wordsPerBucket
      if (holds(first, low, rest, now) || holds(second, low, rest, now)) return 'replayed'

      const inFirst = countFree(first, now)
      const inSecond = countFree(second, now)
      if (inFirst === 0 && inSecond === 0) return 'full'
      let at = inFirst >= inSecond ? first : second
      while ((table[at + expiry] as number) >= now) at++
      table[at] = low
      table[at + high] = rest
      // Rounded up, for an entry must not vanish in the last second of its window.
      table[at + expiry] = Math.ceil(expiresAt)
      return 'fresh'
    },
  })
}

function word(digest: string, at: number): number {
  return (
    (digest.charCodeAt(at) |
      (digest.charCodeAt(at + 1) << 8) |
      (digest.charCodeAt(at + 2) << 16) |
      (digest.charCodeAt(at + 3) << 24)) >>>
    0
  )
}
