/*
 * Nodes that serve requests from one simulated database. Statements wait until the scheduler lets them
 * arrive, in any order; time moves only when it is moved. All chances are drawn.
 */
import { setImmediate } from 'node:timers/promises'
import type { TokenBindingProof } from '@holdfast/verify/token-binding'
import { lifetimes } from '../../src/config/lifetimes.ts'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import { replayEntry } from '../../src/storage/replay-table.ts'
import { familyOfCode } from '../../src/token-endpoint/family.ts'
import type { MachineRequest, Outcome } from '../../src/token-endpoint/machine-request.ts'
import { isRefusal, refusalBody } from '../../src/token-endpoint/refusal.ts'
import type { Answer, Credential, History, Moment, Use } from '../support/history.ts'
import { issuer, key as strongKey, uri } from '../token-endpoint/fixtures.ts'
import type { Choices } from './choices.ts'
import type { Plant } from './plants.ts'
import { assertionKey, type ClientName, clients, createServer } from './server.ts'
import { createStore, type Store } from './store.ts'

/** Something that happened, and the code of the family that it is about. */
export interface Line {
  readonly text: string
  readonly family: string | undefined
}

/** What a request is to be. */
export interface Plan {
  readonly by: string
  readonly does: Use['does']
  readonly client: ClientName
  readonly key: string | undefined
  readonly credential: string | undefined
  readonly form: Readonly<Record<string, string>>
  readonly proof: { readonly jti: string; readonly iat: number } | undefined
  /** By which its client authenticates, if it does so. */
  readonly assertion?: { readonly jti: string; readonly exp: number } | undefined
  readonly lacksSecret?: boolean
  /** Hears of the answer; of undefined when there is none. */
  readonly learnFrom: (answer: Answer | undefined) => void
}

interface Request extends Plan {
  readonly node: number
  readonly name: string
  readonly use: Use
}

/** A statement on its way to the database. */
interface Statement {
  readonly name: string
  readonly request: Request
  /** Whether nobody waits for its answer. */
  readonly isAlone: boolean
  run(store: Store): unknown
  answer(result: unknown): void
  fail(): void
}

const nodes = 3

/** By how many seconds time moves: past a statement, a grace period, a window and each lifetime. */
const jumpsS = [1, 2, 5, 25, 59, 61, 299, 301, 600, 601, 15 * 24 * 60 * 60]

const verbs = { redeem: 'redeems', revoke: 'revokes', inspect: 'asks about' } as const

export class Cluster {
  readonly store: Store
  readonly origins = new Map<string, Credential>()
  /** What happened, a line each. */
  readonly lines: Line[] = []
  /** Errors that no outage of the database explains. */
  readonly errors: unknown[] = []
  /** Seconds since the epoch, by the clock of the database. */
  time: number
  /** Whether nothing goes wrong any more. */
  isCalm = false
  readonly #draw: Choices['draw']
  readonly #plant: Plant | undefined
  readonly #uses: Use[] = []
  readonly #ends: { family: string; order: number }[] = []
  readonly #graceS: number
  readonly #overlapS: number | undefined
  readonly #skewsS: readonly number[]
  readonly #labels = new Map<string, string>()
  /** The code that each token comes from. */
  readonly #families = new Map<string, string>()
  #statements: Statement[] = []
  #requests: Request[] = []
  #order = 0
  #names = 0

  constructor({ draw }: Choices, plant: Plant | undefined) {
    this.#draw = draw
    this.#plant = plant
    this.time = 1_800_000_000 + draw(10) / 10
    this.#graceS = draw(3) === 1 ? 0 : 60
    this.#overlapS = draw(3) === 1 ? undefined : 600
    this.#skewsS = Array.from({ length: nodes }, () => [0, -1, 1][draw(3)] ?? 0)
    this.store = createStore(
      () => this.time,
      (name) => name === plant,
    )
    this.say(`the grace period is ${this.#graceS} s, the overlap of keys ${this.#overlapS ?? 0} s`)
  }

  get hasOverlap(): boolean {
    return this.#overlapS !== undefined
  }

  get history(): History {
    const [uses, origins] = [this.#uses, this.origins]
    const [graceS, overlapS] = [this.#graceS, this.#overlapS]
    const families = new Map([...origins.keys()].map((code) => [familyOfCode(code), code]))
    const ends = this.#ends.map((end) => ({ ...end, family: families.get(end.family) ?? '' }))
    return { uses, origins, ends, graceS, overlapS, slackS: 2 }
  }

  say(line: string, credential?: string): void {
    const seconds = (this.time - 1_800_000_000).toFixed(1)
    const family = this.#families.get(credential ?? '') ?? credential
    this.lines.push({ text: `${seconds.padStart(10)} s  ${line}`, family })
  }

  /** A short name for a value that is long. */
  label(value = 'nothing'): string {
    if (value.length < 20) return value
    const known = this.#labels.get(value) ?? `successor ${this.#labels.size + 1}`
    this.#labels.set(value, known)
    return known
  }

  /** Ends what a credential depends on, by a page of the account: no client asks for it. */
  withdraw(credential: string, what: string, end: (store: Store) => void): void {
    this.say(`${what} ends`, credential)
    const [began, answer] = [this.#moment(), { granted: {} }]
    end(this.store)
    const use = { does: 'revoke', by: 'a person', credential, key: undefined } as const
    this.#uses.push({ ...use, proof: undefined, began, ended: this.#moment(), answer })
  }

  /** Sends a request to a node: once, twice over, or into nothing. */
  request(plan: Plan): void {
    const fate = this.isCalm ? 0 : this.#draw(12)
    const { by, credential } = plan
    const what = `a request about ${this.label(credential)} is lost`
    if (fate === 9) this.say(`${by}: ${what}`, credential)
    else this.#serve(plan)
    if (fate > 9) this.#serve({ ...plan, by: `${by}, repeated by the network` })
  }

  #moment(): Moment {
    return { order: this.#order++, at: this.time }
  }

  #serve(plan: Plan): void {
    const { by, does, key, credential, proof, assertion, form, lacksSecret = false } = plan
    const names = form.successor
    const node = this.#draw(nodes)
    const use: Use = {
      ...{ does, by, credential, key, proof: proof?.jti, lacksSecret, names },
      assertion: assertion?.jti,
      ...{ began: this.#moment(), ended: undefined, answer: undefined },
    }
    const request = { ...plan, node, use, name: `request ${this.#uses.push(use)}` }
    this.#requests.push(request)
    const named = names ? `, next is ${names}` : ''
    const [jti] = [proof, assertion].flatMap((one) => one?.jti ?? [])
    const shown = `${key ? ` by ${key}` : ''}${jti ? ` with ${jti}` : ''}${named}`
    const what = `${by} ${verbs[does]} ${this.label(credential)}${shown}`
    this.say(`${request.name} at node ${node}: ${what}`, credential)
    const now = Math.floor(this.time + (this.#skewsS[node] ?? 0))
    this.#endpoints(request)
      [does](machineRequest(plan, now))
      .then(
        (outcome) => this.#end(request, answerOf(outcome, plan, now)),
        (error) => {
          if (!(error instanceof DatabaseUnavailableError)) this.errors.push(error)
          this.#end(request, undefined)
        },
      )
  }

  #endpoints(request: Request) {
    return createServer({
      send: (name, run) =>
        new Promise((resolve, reject) => {
          const answer = resolve as (result: unknown) => void
          const fail = () => reject(new DatabaseUnavailableError(new Error('simulated')))
          this.#statements.push({ name, request, run, answer, fail, isAlone: false })
        }),
      post: (name, run) =>
        void this.#statements.push({ name, request, run, answer() {}, fail() {}, isAlone: true }),
      newName: () => `token ${++this.#names}`,
      reuseS: this.#graceS,
      overlapS: this.#overlapS,
      assertion: replayEntry(request.client, request.assertion?.jti ?? '', 0).id,
      key: request.key,
      credential: request.credential,
      codeVerifier: request.form.code_verifier,
      misses: () => !this.isCalm && this.#draw(2) === 1,
      onEnd: (family) => void this.#ends.push({ family, order: this.#order++ }),
      plant: this.#plant,
    })
  }

  #end(request: Request, answer: Answer | undefined): void {
    if (!this.#requests.includes(request)) return
    this.#requests = this.#requests.filter((each) => each !== request)
    request.use.ended = this.#moment()
    request.use.answer = answer
    const isLost = !this.isCalm && this.#draw(10) === 9
    const { credential = '' } = request
    const granted = answer && 'granted' in answer ? answer.granted : {}
    for (const token of [granted.refreshToken, granted.accessToken]) {
      if (token) this.#families.set(token, this.#families.get(credential) ?? credential)
    }
    const how = isLost ? ', and the answer is lost' : ''
    this.say(`${request.name} → ${this.#said(answer)}${how}`, credential)
    request.learnFrom(isLost ? undefined : answer)
  }

  #said(answer: Answer | undefined): string {
    if (!answer) return '503'
    if ('refused' in answer) return answer.refused
    if ('active' in answer) return answer.active ? 'active' : 'inactive'
    const { refreshToken } = answer.granted
    return refreshToken ? `granted, ${this.label(refreshToken)}` : 'granted'
  }

  /** Any of the statements arrives, or is lost, or its answer is. */
  deliver(): void {
    const [statement] = this.#statements.splice(this.#draw(this.#statements.length || 1), 1)
    if (!statement) return
    switch (statement.isAlone || this.isCalm ? 0 : this.#draw(14)) {
      case 10:
        this.#sayOf(statement, ' is lost')
        statement.fail()
        return
      case 11:
        this.#execute(statement, ', and the answer is lost')
        statement.fail()
        return
      case 12:
        this.#sayOf(statement, ' is given up, and may still arrive')
        this.#statements.push({ ...statement, answer() {}, fail() {}, isAlone: true })
        statement.fail()
        return
      case 13:
        // What was done arrives once more: the first answer counts.
        statement.answer(this.#execute(statement, ', twice'))
        statement.run(this.store)
        return
      default:
        statement.answer(this.#execute(statement))
    }
  }

  #execute(statement: Statement, how = ''): unknown {
    const result = statement.run(this.store)
    this.#sayOf(statement, `${resultOf(result)}${how}`)
    return result
  }

  #sayOf({ name, request }: Statement, what: string): void {
    this.say(`${request.name}: ${name}${what}`, request.credential)
  }

  /** A node stops: what it has sent arrives or does not, and its clients get no answer. */
  crash(): void {
    const node = this.#draw(nodes)
    this.say(`node ${node} crashes`)
    const lost = this.#requests.filter((each) => each.node === node)
    this.#requests = this.#requests.filter((each) => each.node !== node)
    this.#abandon((statement) => statement.request.node === node)
    for (const { use, learnFrom } of lost) {
      use.ended = this.#moment()
      learnFrom(undefined)
    }
  }

  #abandon(isAbandoned: (statement: Statement) => boolean): void {
    const abandoned = this.#statements.filter(isAbandoned)
    this.#statements = this.#statements.filter((each) => !abandoned.includes(each))
    for (const statement of abandoned) {
      if (this.#draw(2) === 1) this.#execute(statement)
      else this.#sayOf(statement, ' never arrives')
      statement.fail()
    }
  }

  async moveClock(): Promise<void> {
    const seconds = (jumpsS[this.#draw(jumpsS.length)] ?? 0) + this.#draw(10) / 10
    // A statement is given up after 20 seconds (src/storage/database.ts).
    while (seconds > 20 && this.#statements.length > 0) {
      this.#abandon(() => true)
      await setImmediate()
    }
    this.time += seconds
    this.say(`the clock moves by ${seconds} s`)
    if (this.#draw(2) === 1) this.store.removeExpired()
  }

  /** Lets everything arrive. */
  async settle(): Promise<void> {
    this.isCalm = true
    await setImmediate()
    while (this.#statements.length > 0) {
      const statement = this.#statements.shift() as Statement
      statement.answer(this.#execute(statement))
      await setImmediate()
    }
  }
}

function resultOf(result: unknown): string {
  if (result === undefined) return ''
  if (typeof result !== 'object' || result === null) return ` → ${result}`
  if ('replayed' in result) return ' → replayed'
  return 'consumedAt' in result && result.consumedAt !== null ? ' → used before' : ' → found'
}

function machineRequest(
  { client, key, form, proof, assertion }: Plan,
  now: number,
): MachineRequest {
  const isCertificate = key?.startsWith('cert') ?? false
  const certificate = isCertificate && {
    thumbprint: key,
    certificate: {
      publicKey: strongKey.publicKey,
      validFromDate: new Date(0),
      validToDate: new Date(8.64e15),
    },
  }
  const isConfidential = client === 'web' || client === 'plain'
  const signed = assertion && {
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: assertionKey.sign(
      {},
      { iss: client, sub: client, aud: issuer, ...assertion },
    ),
  }
  const secret = isConfidential && { client_secret: 'secret' }
  const provided = client === 'tls' && key ? { tbh: key } : undefined
  return {
    form: { client_id: client, ...secret, ...signed, ...form },
    authorization: undefined,
    dpop: proof && JSON.stringify({ jkt: key, ...proof }),
    wantsSigned: false,
    origin: undefined,
    connection: {
      certificate: (certificate || undefined) as MachineRequest['connection']['certificate'],
      tokenBinding: provided && ({ provided, referred: provided } as TokenBindingProof),
    },
    uri,
    audiences: [issuer],
    endpointUris: [],
    now,
  }
}

function answerOf({ result }: Outcome, { does, key, client }: Plan, now: number): Answer {
  if (isRefusal(result)) return { refused: refusalBody(result).error }
  if (does === 'revoke') return { granted: {} }
  const body = result.body as Record<string, unknown>
  if (does === 'inspect') {
    const boundTo = keyOf(body.cnf)
    return { active: body.active === true, ...(body.active === true && { boundTo }) }
  }
  const accessToken = String(body.access_token)
  const { refreshTokens, refreshTokensBoundTo } = clients[client]
  const isKept = refreshTokens === 'keep'
  const jwt = accessToken.startsWith('{') ? JSON.parse(accessToken) : undefined
  return {
    granted: {
      refreshToken: body.refresh_token as string | undefined,
      refreshTokenExpiresAt: now + lifetimes[isKept ? 'Grant' : 'RefreshToken'],
      refreshTokenUse: { isKept, isOfAnyKey: refreshTokensBoundTo === 'client' },
      ...(jwt
        ? { boundTo: keyOf(jwt.cnf) }
        : { accessToken, accessTokenExpiresAt: now + Number(body.expires_in), boundTo: key }),
    },
  }
}

const keyOf = (cnf: unknown) => Object.values(cnf ?? {})[0] as string | undefined
