import type { KeyTimes } from '../storage/signing-key-table.ts'
/**
 * What each key does at a moment, from the rows of its purpose and the time alone: every node that
 * has read the rows comes to the same answer, with nothing to agree on.
 *
 * A key is `published` before it is used, so that every node and every cache knows it by then; it is
 * `signing` until the next one begins; it is `verifying` for as long as something that it signed can
 * be shown; then it is `retired`, as it is from the moment at which someone retires it.
 *
 * All times are milliseconds since the epoch, by the clock of the database.
 */

export const keyStates = ['published', 'signing', 'verifying', 'retired'] as const
export type KeyState = (typeof keyStates)[number]

export interface ScheduledKey<Key extends KeyTimes = KeyTimes> {
  readonly key: Key
  readonly state: KeyState
  /** When another one signs instead; undefined while none is known. */
  readonly signsUntil: number | undefined
  /** When it is refused; undefined while it is in use. */
  readonly endsAt: number | undefined
}

/** Milliseconds. */
export interface KeyPolicy {
  /** From one key's first signature to the next one's; infinite for never. */
  readonly rotation: number
  /** For how long a key is published before it signs: longer than any cache. */
  readonly publish: number
  /** For how long a key is kept after its last signature: longer than anything lives. */
  readonly keep: number
}

/**
 * The state of each key of one purpose. Exactly one of those that are not retired signs, if there
 * is one: where the time of none has come, the first in line does.
 */
export function scheduleKeys<Key extends KeyTimes>(
  keys: readonly Key[],
  now: number,
  { keep }: Pick<KeyPolicy, 'keep'>,
): ScheduledKey<Key>[] {
  const isLive = ({ retiredAt }: Key) => retiredAt === undefined || retiredAt > now
  const line = keys.filter(hasItsTurn).sort(byTurn)
  const signing = signingOf(line, now, isLive)
  return [...keys].sort(byGeneration).map((key) => {
    const successor = line[line.indexOf(key) + 1]
    const signsUntil = hasItsTurn(key) ? earlier(successor?.signsFrom, key.retiredAt) : undefined
    const endsAt = earlier(signsUntil === undefined ? undefined : signsUntil + keep, key.retiredAt)
    const state =
      key === signing
        ? 'signing'
        : !isLive(key) || (endsAt !== undefined && endsAt <= now)
          ? 'retired'
          : key.signsFrom > now
            ? 'published'
            : 'verifying'
    return { key, state, signsUntil, endsAt }
  })
}

/** A key that was withdrawn before it signed is nobody's predecessor or successor. */
const hasItsTurn = ({ signsFrom, retiredAt }: KeyTimes) =>
  retiredAt === undefined || retiredAt > signsFrom

const byGeneration = (one: KeyTimes, other: KeyTimes) => one.generation - other.generation

const byTurn = (one: KeyTimes, other: KeyTimes) =>
  one.signsFrom - other.signsFrom || byGeneration(one, other)

function signingOf<Key extends KeyTimes>(
  line: readonly Key[],
  now: number,
  isLive: (key: Key) => boolean,
): Key | undefined {
  const turn = line.findLastIndex(({ signsFrom }) => signsFrom <= now)
  // The key whose turn it is may have been retired. Then the next in line signs early: better than
  // falling back to an old key that nobody expects to be in use.
  return line.slice(Math.max(turn, 0)).find(isLive) ?? line.findLast(isLive)
}

function earlier(...times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined)
  return known.length > 0 ? Math.min(...known) : undefined
}

/**
 * In how many milliseconds a key must sign that is to be made now; undefined when none is to be.
 * A next key is made early enough to be published for the whole window.
 */
export function dueIn(
  scheduled: readonly ScheduledKey[],
  now: number,
  { rotation, publish }: Pick<KeyPolicy, 'rotation' | 'publish'>,
): number | undefined {
  const signing = scheduled.find(({ state }) => state === 'signing')
  if (!signing) return 0
  if (scheduled.some(({ state }) => state === 'published')) return undefined
  return now >= signing.key.signsFrom + rotation - publish ? publish : undefined
}

/** The next moment at which a state changes if nobody changes a row. */
export function nextChange(scheduled: readonly ScheduledKey[], now: number): number {
  const times = scheduled.flatMap(({ key, endsAt }) => [
    key.signsFrom,
    key.retiredAt ?? now,
    endsAt ?? now,
  ])
  return Math.min(Number.POSITIVE_INFINITY, ...times.filter((time) => time > now))
}
