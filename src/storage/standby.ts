import { randomInt } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { type CredentialLookup, createCredentialLookup } from './credential-lookup.ts'
import { type Database, openDatabase } from './database.ts'

/** Milliseconds after which a standby that does not answer is given up: the primary is asked then. */
const patienceMs = 2_000

/** How often the standby is looked at while the time passes that it may be behind. */
const looksPerLimit = 4

/** Rows of `node_probes` that watchers of standbys write: those below are of readiness. */
const slots = { from: 1000, to: 10_000 } as const

/** A standby is read from now on, or no longer, and why. */
export type StandbyChange =
  | { readonly isRead: true }
  | { readonly isRead: false; readonly error: unknown }

/** A copy of the database that may be a little behind. */
export interface Standby extends AsyncDisposable {
  /** Begins to look how far it is behind. Nothing is read before. */
  watch(onChange?: (change: StandbyChange) => void): void
  /** By how many milliseconds it is behind at most; undefined while that is not known. */
  behindMs(): number | undefined
  /** Tokens as it knows them; undefined while it may be further behind than is allowed. */
  credentials(): CredentialLookup | undefined
  /** How many statements it was asked. */
  reads(): number
}

export interface StandbyOptions {
  readonly url: string
  /** By how many milliseconds it may be behind. */
  readonly mostBehindMs: number
  readonly primary: Pick<Database, 'query'>
  readonly preparedStatements?: boolean | undefined
  readonly poolSize?: number | undefined
  readonly open?: typeof openDatabase
  /** Milliseconds that never go back. */
  readonly now?: () => number
}

/** Why a standby that answers is not read. */
const notReplayed = 'it has not replayed what the primary has written, or is no standby'
const otherClock = 'its clock differs from that of the primary'

/**
 * A standby by streaming replication. Now and then this writes a row to the primary, and looks which of
 * those writes the standby shows: it has all that was committed before that write began. So it is known
 * without any clock but that of this process, and a standby that has left the history of the primary
 * never shows the write. The time since the write counts as being behind: a standby that no longer
 * answers or replays is out of use when the limit has passed. One whose clock differs from that of the
 * primary by more than the limit is not read: it would see later that something has expired.
 */
export function createStandby({
  url,
  mostBehindMs,
  primary,
  preparedStatements,
  poolSize,
  open = openDatabase,
  now = () => performance.now(),
}: StandbyOptions): Standby {
  const stopped = new AbortController()
  const { signal } = stopped
  const writes = createProbeWrites(primary, now)
  let opened: { readonly database: Database; readonly lookup: CredentialLookup } | undefined
  /** When the last write began that it has shown. */
  let knownSince: number | undefined
  let reads = 0
  let watching: Promise<void> | undefined

  const behindMs = () => (knownSince === undefined ? undefined : now() - knownSince)
  const isUsable = () => (behindMs() ?? Number.POSITIVE_INFINITY) <= mostBehindMs

  async function openPool() {
    const database = await open(url, {
      // One that is idle and breaks is seen by the next look.
      onError: () => {},
      connectionTimeout: patienceMs,
      statementTimeout: patienceMs,
      preparedStatements,
      poolSize,
      mayBeStandby: true,
    })
    return { database, lookup: createCredentialLookup({ ...database, query: ask(database) }) }
  }

  /** What fails once is not asked again before the next look has succeeded. */
  function ask(database: Database): Database['query'] {
    return async (statement) => {
      reads += 1
      try {
        return await database.query(statement)
      } catch (error) {
        knownSince = undefined
        throw error
      }
    }
  }

  async function look(): Promise<void> {
    opened ??= await openPool()
    await writes.write()
    const { since, clockAheadMs } = await writes.shownBy(opened.database)
    const isWrong = Math.abs(clockAheadMs) > mostBehindMs
    if (isWrong) knownSince = undefined
    else knownSince = since ?? knownSince
    if (isWrong || since === undefined) throw new Error(isWrong ? otherClock : notReplayed)
  }

  async function watchUntilStopped(onChange: (change: StandbyChange) => void): Promise<void> {
    let wasRead: boolean | undefined
    const began = now()
    while (!signal.aborted) {
      const error = await look().catch((failure: unknown) => failure)
      const isRead = isUsable()
      // What was just written may be shown by the next look.
      const isKnown = isRead || now() - began >= mostBehindMs
      if (isKnown && isRead !== wasRead && !signal.aborted) {
        onChange(isRead ? { isRead } : { isRead, error })
        wasRead = isRead
      }
      await setTimeout(mostBehindMs / looksPerLimit, undefined, { signal }).catch(() => {})
    }
  }

  return {
    watch(onChange = () => {}) {
      watching ??= watchUntilStopped(onChange)
    },
    behindMs,
    credentials: () => (isUsable() ? opened?.lookup : undefined),
    reads: () => reads,
    async [Symbol.asyncDispose]() {
      stopped.abort()
      await watching
      await opened?.database[Symbol.asyncDispose]()
    },
  }
}

/** Writes to the primary that a standby shows later, and when each of them began. */
function createProbeWrites(primary: Pick<Database, 'query'>, now: () => number) {
  const slot = randomInt(slots.from, slots.to)
  /** In their order; those before one that was shown are of no use. */
  let begun: { readonly at: string; readonly since: number }[] = []
  return {
    async write(): Promise<void> {
      const since = now()
      const { rows } = await primary.query<{ at: string }>({
        name: 'standby-probe',
        text: `insert into node_probes (slot, at) values ($1, clock_timestamp())
               on conflict (slot) do update set at = excluded.at
               returning extract(epoch from at)::text as at`,
        values: [slot],
      })
      for (const { at } of rows) begun = [...begun, { at, since }].slice(-4 * looksPerLimit)
    },

    /**
     * When the last write began that a standby shows, undefined where it shows none of them, and how
     * far the clock of the standby is ahead of that of the primary.
     */
    async shownBy(standby: Database) {
      const { rows } = await standby.query<{ at: string | null; now: number }>({
        name: 'standby-shows',
        text: `select extract(epoch from clock_timestamp())::float8 as now,
                      (select extract(epoch from at)::text from node_probes
                        where slot = $1 and pg_is_in_recovery()) as at`,
        values: [slot],
      })
      const [row] = rows
      const last = begun.at(-1)
      const shown = begun.findIndex(({ at }) => at === row?.at)
      if (shown >= 0) begun = begun.slice(shown)
      return {
        since: shown < 0 ? undefined : begun[0]?.since,
        clockAheadMs:
          row && last ? (row.now - Number(last.at)) * 1000 - (now() - last.since) : Number.NaN,
      }
    },
  }
}
