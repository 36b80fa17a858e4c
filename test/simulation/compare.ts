/*
 * Holds the tables of src/storage against the simulated store: the same calls on both, some of them at
 * once from two nodes. Each answer of PostgreSQL must be the answer that the simulated store gives, for
 * calls at once in one of the orders in which they could have happened.
 */
import {
  type Artifact,
  artifactKey,
  createArtifactTable,
} from '../../src/storage/artifact-table.ts'
import { createCredentialLookup } from '../../src/storage/credential-lookup.ts'
import { type Database, openDatabase } from '../../src/storage/database.ts'
import { createDevicePollTable } from '../../src/storage/device-poll-table.ts'
import { createReplayTable, replayEntry } from '../../src/storage/replay-table.ts'
import { type Choices, seeded } from './choices.ts'
import { createStore, type Store } from './store.ts'

/** One statement, for both. `at` translates times of the simulation to those of PostgreSQL. */
interface Call {
  readonly what: string
  /** @param misses whether a removal does not see what is written at the same time. */
  simulated(store: Store, misses: boolean): unknown
  real(node: Node, at: (time: number) => number): Promise<unknown>
}

type State = ReturnType<Store['save']>

interface Node {
  readonly artifacts: ReturnType<typeof createArtifactTable>
  readonly credentials: ReturnType<typeof createCredentialLookup>
  readonly polls: ReturnType<typeof createDevicePollTable>
  readonly replays: ReturnType<typeof createReplayTable>
}

const nodeOf = (database: Database): Node => ({
  artifacts: createArtifactTable(database),
  credentials: createCredentialLookup(database),
  polls: createDevicePollTable(database),
  replays: createReplayTable(database),
})

/** Seconds: so much more than a run takes that both clocks agree on what has expired. */
const stepS = 100

/** What is asked after one kind and name, whatever is there. */
const seen = (
  found: { payload?: object; source?: object; consumedAt: number | null } | undefined,
) => found && { ...(found.payload ?? found.source), used: found.consumedAt !== null }

/** Draws calls about few credentials, so that they meet. */
function createCalls({ draw }: Choices, now: () => number) {
  const prefix = `${draw(1e9)}`
  const pick = <Item>(items: readonly Item[]) => items[draw(items.length)] as Item
  const grants = ['grant 1', 'grant 2'].map((name) => `${prefix} ${name}`)
  const families = ['family 1', 'family 2'].map((name) => `${prefix} ${name}`)
  const known = [artifactKey('AuthorizationCode', `${prefix} code`)]
  const later = () => now() + (draw(4) - 1) * stepS + stepS / 2
  let made = 0
  const artifact = (
    kind = pick(['RefreshToken', 'AccessToken', 'Grant', 'DeviceCode']),
  ): Artifact => {
    made += 1
    const grantId = pick(grants)
    const key = artifactKey(kind, kind === 'Grant' ? grantId : `${prefix} ${made}`)
    if (kind !== 'Grant') known.push(key)
    const isToken = kind.endsWith('Token')
    return {
      ...key,
      grantId: isToken ? grantId : undefined,
      familyId: isToken ? pick([...families, undefined]) : undefined,
      uid: kind === 'DeviceCode' ? `${prefix} user code` : undefined,
      payload: { made },
      expiresAt: later(),
    }
  }
  const moved = (each: Artifact, at: (time: number) => number) => ({
    ...each,
    expiresAt: at(each.expiresAt),
  })
  const newEntry = () => replayEntry(prefix, `proof ${draw(5)}`, later())

  const make: Record<string, () => Omit<Call, 'what'>> = {
    write() {
      const row = artifact()
      return {
        simulated: (store) => store.write(row),
        real: ({ artifacts }, at) => artifacts.write(moved(row, at)),
      }
    },
    find() {
      const key = pick(known)
      return {
        simulated: (store) => seen(store.find(key)),
        real: async ({ artifacts }) => seen(await artifacts.find(key)),
      }
    },
    findCredential() {
      return credentialOf(pick(known))
    },
    commit() {
      const entries = Array.from({ length: draw(3) }, newEntry)
      const shown = [...new Map(entries.map((each) => [each.id, each])).values()]
      const consumed = pick([undefined, ...known.slice(-3), pick(known)])
      const written = draw(3) === 0 ? [] : [artifact('RefreshToken'), artifact('AccessToken')]
      return {
        simulated: (store) => store.commit({ replayEntries: shown, consumed, written }),
        real: ({ artifacts }, at) => {
          const until = shown.map((each) => ({ ...each, expiresAt: at(each.expiresAt) }))
          const rows = written.map((each) => moved(each, at))
          return artifacts.commit({ replayEntries: until, consumed, written: rows })
        },
      }
    },
    insert() {
      const shown = newEntry()
      return {
        simulated: (store) => store.insert(shown),
        real: ({ replays }, at) => replays.insert({ ...shown, expiresAt: at(shown.expiresAt) }),
      }
    },
    advance() {
      const step = { kind: 'DeviceCode', uid: `${prefix} user code`, grantId: pick(grants) }
      const row = { ...step, payload: { advanced: true } }
      const way = { from: pick([null, 'in flight']), to: pick(['in flight', 'decided']) }
      return {
        simulated: (store) => store.advance(row, way),
        real: ({ artifacts }) => artifacts.advance(row, way),
      }
    },
    endFamily() {
      const ended = { grantId: pick(grants), familyId: pick(families), rememberSeconds: 150 }
      return {
        simulated: (store, misses) => store.endFamily(ended, misses),
        real: ({ artifacts }) => artifacts.endFamily(ended),
      }
    },
    remove() {
      const key = pick(known)
      return {
        simulated: (store) => store.remove(key),
        real: ({ artifacts }) => artifacts.remove(key),
      }
    },
    removeIssued() {
      const grantId = pick(grants)
      return {
        simulated: (store, misses) => store.removeIssued(grantId, misses),
        real: ({ artifacts }) => artifacts.removeIssued(grantId),
      }
    },
    removeGrant() {
      const grantId = pick(grants)
      const key = artifactKey('Grant', grantId)
      return {
        simulated: (store, misses) => store.removeGrant(key, grantId, misses),
        real: ({ artifacts }) => artifacts.removeGrant(key, grantId),
      }
    },
    poll() {
      const { id } = artifactKey('DeviceCode', `${prefix} ${draw(3)}`)
      const expiresAt = now() + 10 * stepS
      return {
        simulated: (store) => store.take(id, { pause: stepS / 2, expiresAt }),
        real: ({ polls }, at) => polls.take(id, { pause: stepS / 2, expiresAt: at(expiresAt) }),
      }
    },
  }
  const often = ['commit', 'commit', 'commit', 'commit', 'write', 'findCredential']
  return {
    make(): Call {
      const what = pick([...Object.keys(make), ...often])
      return { what, ...(make[what] as () => Omit<Call, 'what'>)() }
    },
    /** Everything that can be seen. */
    look: (): Call[] =>
      [...known, ...grants.map((grantId) => artifactKey('Grant', grantId))].map((key) => ({
        what: 'look',
        ...credentialOf(key),
      })),
  }
}

function credentialOf(key: ReturnType<typeof artifactKey>): Omit<Call, 'what'> {
  return {
    simulated(store) {
      const found = store.findCredential(key)
      return found && { ...seen(found), grant: found.grant }
    },
    async real({ credentials }) {
      const found = await credentials.find<object, object>(key)
      return found && { ...seen(found), grant: found.grant }
    },
  }
}

/** The orders in which things can happen. */
function orders<Item>(items: readonly Item[]): Item[][] {
  if (items.length === 0) return [[]]
  return items.flatMap((first, at) =>
    orders([...items.slice(0, at), ...items.slice(at + 1)]).map((rest) => [first, ...rest]),
  )
}

const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other)

/**
 * Runs one history on both.
 *
 * @returns the first calls that PostgreSQL has answered in another way; undefined for none.
 */
export async function compare(
  seed: number,
  databases: readonly [Database, Database],
  { steps = 40 }: { steps?: number } = {},
): Promise<string | undefined> {
  const choices = seeded(seed)
  const nodes = databases.map(nodeOf)
  let time = 1_800_000_000
  let shiftedS = 0
  const store = createStore(() => time)
  const began = Date.now() / 1000 - time
  const at = (moment: number) => moment + began - shiftedS
  const calls = createCalls(choices, () => time)
  let states = [store.save()]
  for (let step = 0; step < steps; step += 1) {
    if (choices.draw(8) === 0) {
      time += stepS
      shiftedS += stepS
      await shift(databases[0])
      if (choices.draw(2) === 0) states = await cleanUp(store, states, nodes[0] as Node)
    }
    const group = Array.from(
      { length: choices.draw(2) === 0 ? 1 : 2 + choices.draw(2) },
      calls.make,
    )
    const answers = await Promise.all(
      group.map((call, index) => call.real(nodes[index % 2] as Node, at)),
    )
    const look = calls.look()
    const after = await Promise.all(look.map((call) => call.real(nodes[0] as Node, at)))
    states = explain(store, states, group, answers, { look, after })
    if (states.length > 0) continue
    const told = group.map(({ what }, index) => `${what} → ${JSON.stringify(answers[index])}`)
    return `seed ${seed}, step ${step}: ${told.join('; ')}`
  }
  return undefined
}

/** The states that the store can be in after these answers: of some rows nobody can see that they are there. */
function explain(
  store: Store,
  before: readonly State[],
  group: readonly Call[],
  answers: readonly unknown[],
  { look, after }: { look: readonly Call[]; after: readonly unknown[] },
): State[] {
  const possible = new Map<string, State>()
  const asked = group.map((call, index) => ({ call, answer: answers[index] }))
  for (const state of before) {
    for (const order of orders(asked)) {
      for (const misses of group.length > 1 ? [false, true] : [false]) {
        state.restore()
        const isSame =
          order.every(({ call, answer }) => same(call.simulated(store, misses), answer)) &&
          look.every((call, index) => same(call.simulated(store, false), after[index]))
        const reached = store.save()
        if (isSame) possible.set(reached.name, reached)
      }
    }
  }
  return [...possible.values()]
}

/** Time moves for rows: they become older. */
async function shift(database: Database): Promise<void> {
  for (const [table, columns] of [
    ['artifacts', ['expires_at', 'consumed_at']],
    ['replay_marks', ['expires_at']],
    ['device_polls', ['expires_at', 'due']],
  ] as const) {
    const sets = columns.map((name) => `${name} = ${name} - interval '${stepS} seconds'`)
    await database.query({ text: `update ${table} set ${sets.join(', ')}` })
  }
}

async function cleanUp(
  store: Store,
  states: readonly State[],
  { artifacts, replays }: Node,
): Promise<State[]> {
  await Promise.all([artifacts.removeExpired(1000), replays.removeExpired(1000)])
  return states.map(({ restore }) => {
    restore()
    store.removeExpired()
    return store.save()
  })
}

/** Opens the database for two nodes. */
export async function openNodes(url: string) {
  const open = () => openDatabase(url, { onError: () => {}, poolSize: 4 })
  const databases = await Promise.all([open(), open()])
  return {
    databases: databases as [Database, Database],
    async [Symbol.asyncDispose]() {
      await Promise.all(databases.map((each) => each[Symbol.asyncDispose]()))
    },
  }
}
