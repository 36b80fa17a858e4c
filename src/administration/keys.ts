import { type KeyPurpose, keyPurposes } from '../keys/key-purpose.ts'
import type { KeyName, KeyRing, KeySchedule } from '../keys/key-ring.ts'
import type { KeyState } from '../keys/key-schedule.ts'
import type { KeyEvent } from '../observability/event-names.ts'
import type { SigningKeyTable } from '../storage/signing-key-table.ts'
import { AdministrationError } from './administration-error.ts'

/** A key as administrators see it. */
export interface KeyFacts {
  readonly kid: string
  readonly purpose: string
  readonly state: KeyState
  readonly createdAt: Date
  readonly signsFrom: Date
  /** Null while no other one is to sign instead. */
  readonly signsUntil: Date | null
  /** When it is refused; null while that is not known. */
  readonly endsAt: Date | null
  /** Whether its envelope can be opened by the secrets that are configured. */
  readonly readable: boolean
}

/** A key that was retired, and the name of the one that signs instead, or will. */
export interface RetiredKey extends KeyFacts {
  readonly successor: string | null
}

export interface KeysOptions {
  readonly ring: KeyRing
  readonly table: Pick<SigningKeyTable, 'advance' | 'retire'>
  /** Milliseconds for which a key is published before it signs. */
  readonly publish: number
  readonly changed: (change: KeyEvent, key: KeyName) => void
}

/** Milliseconds within which all rotations of a purpose are one: of many at once, or repeated. */
const oneRotation = 60_000

/** Next keys of one purpose that may wait: APIs fetch them all. */
const mostWaiting = 8

/** The keys that tokens, cookies, nonces and forms are made with. */
export function administerKeys({ ring, table, publish, changed }: KeysOptions) {
  function facts({ key, state, signsUntil, endsAt }: KeySchedule): KeyFacts {
    const { kid, purpose, createdAt, signsFrom } = key
    return {
      kid,
      purpose,
      state,
      createdAt: new Date(createdAt),
      signsFrom: new Date(signsFrom),
      signsUntil: asDate(signsUntil),
      endsAt: asDate(endsAt),
      readable: !ring.unreadable().includes(kid),
    }
  }

  const found = (kid: string) => ring.scheduled().find(({ key }) => key.kid === kid)

  const live = () => ring.scheduled().filter(({ state }) => state !== 'retired')

  /** Those that are published and do not sign yet, the oldest first. */
  const waiting = (purpose: string) =>
    ring.scheduled().filter(({ key, state }) => key.purpose === purpose && state === 'published')

  const isRotated = (purpose: string) => {
    const next = waiting(purpose)
    const { createdAt = Number.NEGATIVE_INFINITY } = next.at(-1)?.key ?? {}
    return next.length >= mostWaiting || createdAt > ring.now() - oneRotation
  }

  async function make(purposes: readonly KeyPurpose[], signsIn: number): Promise<void> {
    for (const made of await ring.publish(purposes, signsIn)) changed('key.made', made)
  }

  async function end(key: KeyName): Promise<void> {
    if (await table.retire(key.kid)) changed('key.retired', nameOf(key))
  }

  /** Has another key sign from now on. */
  async function replace({ key }: KeySchedule): Promise<void> {
    const purpose = key.purpose as KeyPurpose
    if (waiting(purpose).length === 0) await make([purpose], 0)
    // Someone who rotates at the same moment has made one that would sign only later.
    for (const kid of await table.advance(purpose)) changed('key.advanced', { kid, purpose })
  }

  return {
    async list(): Promise<KeyFacts[]> {
      await ring.refresh()
      return ring.scheduled().map(facts)
    },

    /**
     * Publishes one more key of each purpose, which signs once every cache can have it, after those
     * that wait already. Any number of calls at once come to the same keys.
     */
    async rotate(named: readonly KeyPurpose[]): Promise<KeyFacts[]> {
      const purposes = [...new Set(named)]
      await ring.refresh()
      await make(
        purposes.filter((purpose) => !isRotated(purpose)),
        publish,
      )
      return purposes.flatMap((purpose) => waiting(purpose).slice(-1).map(facts))
    },

    /**
     * Takes a key out of use: once everything that it signed has expired; or now, and
     * everything that it signed with it.
     *
     * @throws AdministrationError `not_found`
     */
    async retire(kid: string, { now }: { now: boolean }): Promise<RetiredKey> {
      await ring.refresh()
      const before = found(kid)
      if (!before) throw new AdministrationError('not_found', `There is no key ${kid}.`)
      const { state, key } = before
      if (now) {
        if (state === 'signing') await replace(before)
        if (state !== 'retired') await end(key)
      } else if (state === 'signing') {
        const purpose = key.purpose as KeyPurpose
        if (waiting(purpose).length === 0) await make([purpose], publish)
      } else if (state === 'published') {
        // It has signed nothing.
        await end(key)
      }
      await ring.refresh()
      const others = ring
        .scheduled()
        .filter((each) => each.key.purpose === key.purpose && each.key.kid !== kid)
      const successor =
        others.find((each) => each.state === 'published') ??
        others.find((each) => each.state === 'signing')
      return { ...facts(found(kid) ?? before), successor: successor?.key.kid ?? null }
    },

    /**
     * Retires all keys now, and has new ones sign: for when the secret is lost, so that none of them
     * can be opened. What a node makes meanwhile under another secret is retired as well.
     */
    async reset(): Promise<KeyFacts[]> {
      await ring.refresh()
      const before = new Set(live().map(({ key }) => key.kid))
      const isOld = ({ key: { kid } }: KeySchedule) =>
        before.has(kid) || ring.unreadable().includes(kid)
      const signing = () => live().filter((each) => each.state === 'signing' && !isOld(each))
      for (;;) {
        const purposes = new Set(signing().map(({ key }) => key.purpose))
        const missing = keyPurposes.filter((purpose) => !purposes.has(purpose))
        const old = live().filter(isOld)
        if (missing.length + old.length === 0) return signing().map(facts)
        await make(missing, 0)
        for (const { key } of old) await end(key)
        await ring.refresh()
      }
    },
  }
}

const nameOf = ({ kid, purpose }: KeyName): KeyName => ({ kid, purpose })

const asDate = (time: number | undefined) => (time === undefined ? null : new Date(time))
