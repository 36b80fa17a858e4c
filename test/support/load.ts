import { createHistogram, performance, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import type { ClientMetadata } from 'oidc-provider'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { approve, askForCode, deviceGrant } from './device-flow.ts'
import { type Answer, basic, createPerson, newKey, obtainCode, post, refreshing } from './flow.ts'
import { createRecorder, type Recorder } from './history.ts'

/** What the load is of: the nodes behind one address. */
export interface Target {
  readonly issuer: string
  readonly app: ClientMetadata
  readonly service: ClientMetadata
}

const operations = [
  'client_credentials',
  'refresh_token',
  'authorization_code',
  'device_code',
] as const
export type Operation = (typeof operations)[number]

/** What no fault may lead to. Each is a sentence. */
export type Violation = string

/** A request that was answered 200, for whoever wants to send it again. */
export interface Accepted {
  readonly at: number
  readonly parameters: Record<string, string>
  readonly proof: string
  readonly headers: Record<string, string>
}

/** The chain of refresh tokens of one sign-in: each the successor of the one before. */
export interface Chain {
  readonly key: KeyPair
  readonly tokens: readonly string[]
}

export interface Load {
  /** What a client has noticed by itself, and what the whole history contradicts. */
  judge(): Violation[]
  /** Every request for tokens, and what came of it. */
  readonly history: Recorder
  /** Answers by status: what went wrong is 502, 503 or 504 with Retry-After, or `network`. */
  readonly answers: ReadonlyMap<string, number>
  readonly latencies: Readonly<Record<Operation, RecordableHistogram>>
  readonly chains: readonly Chain[]
  /** The last requests that were accepted, but for codes: one that comes again ends its family. */
  accepted(): readonly Accepted[]
  /** Resolves when every worker has finished so many operations more, whatever it went through. */
  progress(operations: number): Promise<void>
  /** Resolves when so many answers of this status more have come. */
  sees(status: string, count?: number): Promise<void>
  /** Lets every worker finish what it has begun. */
  stop(): Promise<void>
}

export interface LoadOptions {
  readonly workers: number
  /** Milliseconds that a worker thinks between two operations. */
  readonly pause?: number
  /** Seconds for which the nodes let a refresh be repeated. */
  readonly graceS?: number
  /** Sends every request. */
  readonly fetch?: typeof globalThis.fetch
}

/** Statuses by which a server or proxy says that it cannot now. */
const passing = new Set([502, 503, 504])

/** Milliseconds before a client asks again: less than the response asks for, to keep up the load. */
const patience = 100

/** Of each worker so many are remembered. */
const remembered = 50

/**
 * Clients that do what clients should, and some of what thieves do, until they are stopped: tokens
 * for services, refresh after refresh of one sign-in each, and sign-ins. Half of the requests are
 * sent twice at once, so that two nodes see one proof. Whatever has no answer is asked for again;
 * nothing is ever given up.
 */
export function startLoad(
  target: Target,
  { workers, pause = 0, graceS = 60, fetch = globalThis.fetch }: LoadOptions,
): Load {
  const violations: Violation[] = []
  const history = createRecorder({ graceS })
  const answers = new Map<string, number>()
  const watchers = new Set<() => void>()
  const finished = Array.from({ length: workers }, () => 0)
  const latencies = Object.fromEntries(
    operations.map((name) => [name, createHistogram()]),
  ) as Record<Operation, RecordableHistogram>
  let stopped = false

  const count = (status: string) => {
    answers.set(status, (answers.get(status) ?? 0) + 1)
    for (const look of watchers) look()
  }
  const violate = (violation: Violation) => {
    if (violations.length < 100) violations.push(violation)
  }
  const watchedFetch: typeof fetch = async (...request) => {
    const response = await fetch(...request).catch((error: unknown) => {
      count('network')
      throw error
    })
    count(String(response.status))
    if (response.status < 500) return response
    if (!passing.has(response.status)) violate(`an answer has the status ${response.status}`)
    else if (!response.headers.has('retry-after')) {
      violate(`a ${response.status} does not say when to come back`)
    }
    return response
  }
  const until = (holds: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!holds()) return
        watchers.delete(look)
        resolve()
      }
      watchers.add(look)
      look()
    })

  const machines = Array.from({ length: workers }, (_, at) =>
    createWorker(target, { fetch: history.watch(watchedFetch), violate, latencies, offset: at }),
  )
  const running = machines.map(async (machine, at) => {
    while (!stopped) {
      await machine.work()
      finished[at] = (finished[at] ?? 0) + 1
      for (const look of watchers) look()
      if (pause > 0) await setTimeout(pause)
    }
  })
  // Whoever waits for progress hears of a worker that threw, and whoever stops the load as well.
  const failed = Promise.all(running)
  failed.catch(() => {})

  return {
    judge: () => [...violations, ...history.judge().map(({ rule, what }) => `${rule}: ${what}`)],
    history,
    answers,
    latencies,
    chains: machines.map(({ chain }) => chain),
    accepted: () =>
      machines
        .flatMap(({ accepted }) => accepted)
        .filter(({ parameters }) => !('code' in parameters || 'device_code' in parameters))
        .sort((a, b) => a.at - b.at),
    async progress(operations) {
      const goals = finished.map((done) => done + operations)
      const reached = until(() => finished.every((done, at) => done >= (goals[at] ?? 0)))
      await Promise.race([reached, failed])
    },
    async sees(status, more = 1) {
      const goal = (answers.get(status) ?? 0) + more
      await Promise.race([until(() => (answers.get(status) ?? 0) >= goal), failed])
    },
    async stop() {
      stopped = true
      await failed
    },
  }
}

interface Worker {
  readonly chain: Chain & { tokens: string[] }
  readonly accepted: Accepted[]
  work(): Promise<void>
}

interface Environment {
  readonly fetch: typeof globalThis.fetch
  readonly violate: (violation: Violation) => void
  readonly latencies: Record<Operation, RecordableHistogram>
  readonly offset: number
}

function createWorker(target: Target, { fetch, violate, latencies, offset }: Environment): Worker {
  const { app, service } = target
  const tokens: string[] = []
  const accepted: Accepted[] = []
  const person = createPerson(target, { fetch })
  const other = createPerson(target, { fetch })
  const secret = basic(service)
  let key: KeyPair
  let turn = offset

  /** One request with one proof, sent once, or twice at once. */
  async function send(
    operation: Operation,
    parameters: Record<string, string>,
    { headers = {}, twice = false }: { headers?: Record<string, string>; twice?: boolean } = {},
  ): Promise<Answer[]> {
    const proof = await makeProof(key, { method: 'POST', url: `${target.issuer}/token` })
    const started = performance.now()
    const request = { parameters, proof, headers }
    const copies = Array.from({ length: twice ? 2 : 1 }, () =>
      post(target, '/token', parameters, { proof, headers, fetch }).catch(() => undefined),
    )
    const some = (await Promise.all(copies)).filter((answer) => answer !== undefined)
    if (some.some(({ status }) => status === 200)) {
      latencies[operation].record(Math.max(1, Math.round((performance.now() - started) * 1000)))
      accepted.push({ at: Date.now(), ...request })
      if (accepted.length > remembered) accepted.shift()
    }
    return some
  }

  /** Asks until there is an answer; undefined when it is a refusal that nothing excuses. */
  async function insist(
    operation: Operation,
    parameters: Record<string, string>,
    options: { headers?: Record<string, string>; twice?: boolean },
  ): Promise<Answer | undefined> {
    for (;;) {
      const some = await send(operation, parameters, options)
      const good = some.find(({ status }) => status === 200)
      if (good) return good
      const refused = some.filter(({ status }) => !passing.has(status))
      // Of two with one proof one may be refused, because the other one came first.
      if (refused.length === (options.twice ? 2 : 1)) {
        const [{ status, body } = { status: 0, body: {} }] = refused
        violate(`${operation} was refused: ${status} ${JSON.stringify(body)}`)
        return undefined
      }
      await setTimeout(patience)
    }
  }

  async function signIn(): Promise<void> {
    for (;;) {
      const requested = await obtainCode(person, app).catch(() => undefined)
      if (requested) {
        const [answer] = await send('authorization_code', requested.exchange)
        if (answer?.status === 200) {
          tokens.splice(0, tokens.length, answer.body.refresh_token)
          return
        }
        // Whether a code whose answer was lost is used up nobody can say: a new one is asked for.
        if (answer && !passing.has(answer.status)) violate(`a code was refused: ${answer.status}`)
      }
      await setTimeout(patience)
    }
  }

  // In a browser of its own: a code that is used twice ends all that was granted there.
  async function useCodeTwice(): Promise<void> {
    const requested = await obtainCode(other, app).catch(() => undefined)
    if (!requested) return
    await Promise.all([1, 2].map(() => send('authorization_code', requested.exchange)))
  }

  // Its code is used twice at once, and what comes of it is given back: from then on nothing is good.
  async function useDevice(): Promise<void> {
    const client = { client_id: app.client_id }
    const asked = await askForCode(target, client, { key, fetch }).catch(() => undefined)
    if (asked?.status !== 200) return
    const approved = await approve(target, other, asked.body.user_code).catch(() => undefined)
    // Of an approval without an answer nobody knows whether the session was stored that it is tied to.
    if (approved?.status !== 200) return
    const polled = { ...client, grant_type: deviceGrant, device_code: asked.body.device_code }
    const both = await Promise.all([1, 2].map(() => send('device_code', polled)))
    const good = both.flat().find(({ status }) => status === 200)
    if (!good) return
    const { access_token: token, refresh_token: next } = good.body
    await post(target, '/revoke', { ...client, token }, { fetch }).catch(() => undefined)
    await send('refresh_token', refreshing(app, next))
    await post(target, '/introspect', { ...client, token }, { fetch }).catch(() => undefined)
  }

  /** Two tabs of one client: each has a proof of its own, and both get the same successor. */
  async function race(used: Record<string, string>): Promise<Answer | undefined> {
    if (turn % 5 !== 0) return undefined
    const some = (await Promise.all([1, 2].map(() => send('refresh_token', used)))).flat()
    return some.find(({ status }) => status === 200)
  }

  async function refresh(twice: boolean): Promise<void> {
    const used = refreshing(app, tokens.at(-1) ?? '')
    const good = (await race(used)) ?? (await insist('refresh_token', used, { twice }))
    // Lost: reported, and a new sign-in lets the load go on.
    if (!good) return signIn()
    const { refresh_token: next } = good.body
    if (tokens.includes(next)) violate('a refresh token came back as its own successor')
    tokens.push(next)
    if (tokens.length > remembered) tokens.shift()
  }

  return {
    chain: {
      get key() {
        return key
      },
      tokens,
    },
    accepted,
    async work() {
      key ??= await newKey()
      if (tokens.length === 0) return signIn()
      turn += 1
      const twice = turn % 2 === 0
      if (turn % 13 === 0) return useCodeTwice()
      if (turn % 11 === 0 && app.grant_types?.includes(deviceGrant)) return useDevice()
      if (turn % 3 === 0) {
        const parameters = { grant_type: 'client_credentials' }
        await insist('client_credentials', parameters, { headers: secret, twice })
        return
      }
      return refresh(twice)
    },
  }
}

/**
 * Asks for what a fault may have undone: requests that were accepted before, each chain's newest token,
 * and the one before it. The history has the answers; here are those that nothing can excuse.
 */
export async function findLosses(
  target: Target,
  { history }: Pick<Load, 'history'>,
  { accepted, chains }: { accepted: readonly Accepted[]; chains: readonly Chain[] },
): Promise<Violation[]> {
  const losses: Violation[] = []
  const fetch = history.watch()
  for (const { parameters, ...options } of accepted) {
    const { status } = await post(target, '/token', parameters, { ...options, fetch })
    if (status !== 400) losses.push(`a proof that was used is answered ${status}`)
  }
  for (const { key, tokens } of chains) {
    const use = async (token = '') =>
      (await post(target, '/token', refreshing(target.app, token), { key, fetch })).status
    const [older, newer] = tokens.slice(-2)
    const newest = await use(newer)
    if (newest !== 200) losses.push(`the newest refresh token is answered ${newest}`)
    const used = await use(older)
    if (used !== 400) losses.push(`a refresh token that was used is answered ${used}`)
  }
  return losses
}
