import { encryptionKeyOf, firstSecretOf } from '../config/secret.ts'
import type {
  NewSigningKey,
  SigningKeyTable,
  StoredSigningKey,
} from '../storage/signing-key-table.ts'
import { StorageError } from '../storage/storage-error.ts'
import { openKey, sealKey } from './envelope.ts'
import {
  isSigningAlgorithm,
  type KeyMaterial,
  type KeyPurpose,
  keyPurposes,
  makeKey as makeRandomKey,
  secretOf,
} from './key-purpose.ts'
import {
  dueIn,
  type KeyPolicy,
  nextChange,
  type ScheduledKey,
  scheduleKeys,
} from './key-schedule.ts'
import { createVault, type Vault } from './vault.ts'

/**
 * The keys of each purpose that are not retired, the one that signs first. It is the same object
 * until something is another: what is made of it can be remembered by it.
 */
export type KeyView = Readonly<Record<KeyPurpose, readonly KeyMaterial[]>>

/** Between two looks at the clock of the database nobody who sets that of the node changes the time. */
const steadyNow = () => performance.timeOrigin + performance.now()

export type KeySchedule = ScheduledKey<StoredSigningKey>

/** A key and what it is for. */
export interface KeyName {
  readonly kid: string
  readonly purpose: string
}

/** What a node did to a key by itself. */
export interface KeyChange extends KeyName {
  readonly change: 'made' | 'resealed' | 'removed'
  /** Whether it is one of those that an installation without any begins with. */
  readonly first?: boolean
}

export interface KeyRing {
  /** Encrypts by the secret of the installation. */
  readonly vault: Vault
  /** The keys at this moment. No I/O: what was read last is good until it is read again. */
  view(): KeyView
  /** All rows at this moment. */
  scheduled(): readonly KeySchedule[]
  /** The names of keys in use that cannot be opened here. */
  unreadable(): readonly string[]
  /** What time it is for the database: whole milliseconds since the epoch. */
  now(): number
  /** Reads the rows. One statement; when it fails, the ring is as it was. */
  refresh(): Promise<void>
  /** Does what is due: makes the next keys, reseals under the present secret, removes old rows. */
  upkeep(): Promise<void>
  /**
   * Makes a next key of each purpose, which signs after so many milliseconds.
   *
   * @returns those that were made: not one whose generation another node has made at the same time.
   */
  publish(purposes: readonly KeyPurpose[], signsIn: number): Promise<readonly KeyName[]>
}

export interface KeyRingOptions {
  readonly table: SigningKeyTable
  /** The secret of the installation, and those that it had before. */
  readonly secrets: readonly string[]
  readonly policy: KeyPolicy
  readonly onChange: (change: KeyChange) => void
  /** Opens a ring of which some keys, or all, cannot be read: so that they can be retired. */
  readonly tolerate?: 'some' | 'all' | undefined
  /** Whether the keys of a purpose that has none are made at once. */
  readonly makes?: boolean | undefined
  /** Told of each key that is to be made: how many of how many are made before it. */
  readonly onStep?: ((what: string, done: number, total: number) => void) | undefined
  /** Milliseconds since the epoch, as far as this node knows. */
  readonly now?: () => number
  /** Makes a key. Default: a random one; a test may take one that is ready. */
  readonly makeKey?: ((purpose: KeyPurpose) => Promise<KeyMaterial>) | undefined
}

/**
 * Reads the keys of the installation, and makes those that are missing unless `makes` is false.
 *
 * @throws {@link StorageError} `secret_mismatch` when all were encrypted under another secret,
 *   `key_unreadable` when some cannot be opened.
 */
export async function openKeyRing({
  table,
  secrets,
  policy,
  onChange,
  tolerate,
  makes = true,
  onStep = () => {},
  now = steadyNow,
  makeKey = makeRandomKey,
}: KeyRingOptions): Promise<KeyRing> {
  const encryptionKeys = secrets.map(encryptionKeyOf)
  const vault = createVault(secrets)
  const opened = new Map<string, { key: KeyMaterial; by: number; jwe: string }>()
  let rows: readonly StoredSigningKey[] = []
  let readings = 0
  let reading = 0
  // Nodes go by the clock of the database: theirs may differ.
  let clockOffset = 0
  let view: { keys: KeyView; names: string; until: number } | undefined
  const databaseNow = () => Math.floor(now() + clockOffset)

  async function refresh(): Promise<void> {
    readings += 1
    const mine = readings
    const asked = now()
    const found = await table.list()
    const offset = found.now - (asked + now()) / 2
    const retired = new Set(found.keys.filter(({ retiredAt = Infinity }) => retiredAt <= found.now))
    await Promise.all(found.keys.filter((row) => !retired.has(row)).map(open))
    // Someone has asked later and is back already: what was read here may be older than a change.
    if (mine < reading) return
    reading = mine
    clockOffset = offset
    rows = found.keys
    const present = new Set(rows.map(({ kid }) => kid))
    for (const kid of opened.keys()) if (!present.has(kid)) opened.delete(kid)
    if (view) view.until = Number.NEGATIVE_INFINITY
  }

  async function open(row: StoredSigningKey): Promise<void> {
    const known = opened.get(row.kid)
    if (known?.jwe === row.jwe) return
    const found = await openKey(row.jwe, row, encryptionKeys)
    // A key that is known stays so when its row is damaged, or sealed under a secret that this node
    // will learn of it only when it is started again.
    if (found) opened.set(row.kid, { ...found, key: known?.key ?? found.key, jwe: row.jwe })
  }

  const rowsOf = (purpose: KeyPurpose) => rows.filter((row) => row.purpose === purpose)
  const schedule = (keys: readonly StoredSigningKey[]) => scheduleKeys(keys, databaseNow(), policy)
  const scheduled = () => keyPurposes.flatMap((purpose) => schedule(rowsOf(purpose)))
  const inUse = () => scheduled().filter(({ state }) => state !== 'retired')
  const isCurrent = ({ kid, jwe }: StoredSigningKey) => opened.get(kid)?.jwe === jwe
  const unreadable = () => inUse().flatMap(({ key }) => (opened.has(key.kid) ? [] : [key.kid]))

  function look() {
    const readable = rows.filter(({ kid }) => opened.has(kid))
    const changes: number[] = []
    const keys = Object.fromEntries(
      keyPurposes.map((purpose) => {
        const all = schedule(readable.filter((row) => row.purpose === purpose))
        changes.push(nextChange(all, databaseNow()))
        const use = all.filter(({ state }) => state !== 'retired')
        use.sort(
          (one, other) => Number(other.state === 'signing') - Number(one.state === 'signing'),
        )
        return [purpose, use.flatMap(({ key }) => opened.get(key.kid)?.key ?? [])]
      }),
    ) as unknown as KeyView
    const names = keyPurposes.flatMap((each) => ['', ...keys[each].map(({ kid }) => kid)]).join()
    const until = Math.min(...changes)
    if (view?.names === names) view.until = until
    else view = { keys: Object.freeze(keys), names, until }
    return view
  }

  const publish = (purposes: readonly KeyPurpose[], signsIn: number) =>
    make(purposes.map((purpose) => ({ purpose, signsIn })))

  async function make(
    wanted: readonly { purpose: KeyPurpose; signsIn: number }[],
  ): Promise<readonly KeyName[]> {
    if (wanted.length === 0) return []
    let done = 0
    const step = () => onStep('Making keys', done, wanted.length)
    step()
    const keys = await Promise.all(
      wanted.map(async ({ purpose, signsIn }): Promise<NewSigningKey> => {
        const key = formerSecret(purpose) ?? (await makeKey(purpose))
        done += 1
        step()
        const generation = Math.max(0, ...rowsOf(purpose).map((row) => row.generation)) + 1
        const jwe = await sealKey(key, { kid: key.kid, purpose }, encryptionKeys[0] as Uint8Array)
        return { kid: key.kid, purpose, generation, jwe, signsIn }
      }),
    )
    const inserted = new Set(await table.insert(keys))
    await refresh()
    return keys.flatMap(({ kid, purpose }) => (inserted.has(kid) ? [{ kid, purpose }] : []))
  }

  async function makeAndReport(wanted: readonly { purpose: KeyPurpose; signsIn: number }[]) {
    const first = rows.length === 0
    for (const made of await make(wanted)) onChange({ change: 'made', ...made, first })
  }

  /**
   * The release before had its secrets from that of the installation itself. Its nodes may still be
   * running, and people are signed in by its cookies: these are the first generation then.
   */
  function formerSecret(purpose: KeyPurpose): KeyMaterial | undefined {
    if (isSigningAlgorithm(purpose) || rowsOf(purpose).length > 0) return undefined
    const signing = rows.find((row) => isSigningAlgorithm(row.purpose) && opened.has(row.kid))
    const isUpgrade = signing && rows.every((row) => isSigningAlgorithm(row.purpose))
    const secret = isUpgrade && secrets[opened.get(signing.kid)?.by ?? 0]
    return secret ? secretOf(firstSecretOf(secret, purpose)) : undefined
  }

  const due = () =>
    keyPurposes.flatMap((purpose) => {
      const signsIn = dueIn(schedule(rowsOf(purpose)), databaseNow(), policy)
      return signsIn === undefined ? [] : [{ purpose, signsIn }]
    })

  async function upkeep(): Promise<void> {
    // A node with an outdated secret makes no keys that the others could not read.
    if (inUse().every(({ key }) => isCurrent(key))) await makeAndReport(due())
    await reseal()
    await removeEnded()
  }

  async function reseal(): Promise<void> {
    for (const row of rows) {
      const { key, by = 0 } = opened.get(row.kid) ?? {}
      if (!key || by === 0 || !isCurrent(row)) continue
      const jwe = await sealKey(key, row, encryptionKeys[0] as Uint8Array)
      if (await table.reseal(row, jwe)) onChange({ change: 'resealed', ...nameOf(row) })
      opened.delete(row.kid)
      await open({ ...row, jwe })
    }
  }

  /** Later by as long as keys are kept: until then a row says when the key before it ended. */
  async function removeEnded(): Promise<void> {
    const ended = scheduled().filter(
      ({ state, endsAt = Infinity }) => state === 'retired' && endsAt + policy.keep < databaseNow(),
    )
    if (ended.length === 0) return
    const removed = new Set(await table.remove(ended.map(({ key }) => key.kid)))
    for (const { key } of ended) {
      if (removed.has(key.kid)) onChange({ change: 'removed', ...nameOf(key) })
    }
    await refresh()
  }

  await refresh()
  if (tolerate !== 'all') refuseUnreadable(inUse().length, unreadable(), tolerate === 'some')
  if (makes) await makeAndReport(due().filter(({ signsIn }) => signsIn === 0))
  return {
    vault,
    view: () => (view && databaseNow() < view.until ? view : look()).keys,
    scheduled,
    unreadable,
    now: databaseNow,
    refresh,
    upkeep,
    publish,
  }
}

/** Whether every purpose has a key. */
export function isComplete(view: KeyView): boolean {
  return keyPurposes.every((purpose) => view[purpose].length > 0)
}

/** Keys of this process alone: for an engine that validates metadata and signs nothing. */
export async function makeTemporaryKeys(): Promise<Pick<KeyRing, 'view'>> {
  const made = await Promise.all(
    keyPurposes.map(async (purpose) => [purpose, [await makeRandomKey(purpose)]]),
  )
  const view = Object.fromEntries(made) as KeyView
  return { view: () => view }
}

const nameOf = ({ kid, purpose }: StoredSigningKey) => ({ kid, purpose })

function refuseUnreadable(count: number, unreadable: readonly string[], tolerant: boolean): void {
  const [kid] = unreadable
  if (kid === undefined) return
  if (unreadable.length === count) {
    throw new StorageError(
      'secret_mismatch',
      'The keys in this database were encrypted under another secret. Set HOLDFAST_SECRET or ' +
        'HOLDFAST_SECRET_PREVIOUS to it, or restore the file "secret" of the data folder. If it is ' +
        'lost: holdfast keys reset',
    )
  }
  if (tolerant) return
  throw new StorageError(
    'key_unreadable',
    `The key ${kid} in this database cannot be opened: it is damaged, or was encrypted under a ` +
      `secret that is not configured. To do without it: holdfast keys retire ${kid} --now`,
  )
}
