/* Clients with their own keys, and thieves with copies of what they send and get. */
import { deviceGrant } from '../../src/clients/grant-types.ts'
import { lifetimes } from '../../src/config/lifetimes.ts'
import { artifactKey } from '../../src/storage/artifact-table.ts'
import type { Answer } from '../support/history.ts'
import { api, challenge, verifier } from '../token-endpoint/fixtures.ts'
import type { Choices } from './choices.ts'
import type { Cluster, Plan } from './cluster.ts'
import type { ClientName } from './server.ts'

/** A person's client, and its tokens of one authorization. */
interface Owner {
  readonly name: string
  readonly client: ClientName
  key: string | undefined
  /** The key that it has named as the next one. */
  next?: string | undefined
  readonly code: string
  readonly isDevice: boolean
  /** Whether its tokens end with the session of its person. */
  readonly endsWithSession: boolean
  readonly refreshTokens: string[]
  readonly accessTokens: string[]
  /** Whether its newest token was refused: it would ask its person to sign in again. */
  isDone: boolean
}

const names = ['app', 'web', 'cert', 'plain', 'signed', 'tls', 'kept', 'fapi'] as const
const redirectUri = 'https://app.example/callback'
const tenYearsS = 10 * 365 * 24 * 60 * 60
const refreshing = (token: string) => ({ grant_type: 'refresh_token', refresh_token: token })
const newestOf = ({ refreshTokens, code }: Owner) => refreshTokens.at(-1) ?? code
const kinds = {
  ...{ app: 'key', web: 'key', kept: 'key', fapi: 'key' },
  ...{ cert: 'cert', signed: 'cert', tls: 'token binding' },
}
/** Clients that authenticate by assertions. */
const signing: ReadonlySet<ClientName> = new Set(['signed', 'fapi'])
const keyOf = (client: ClientName, name: string) =>
  client === 'plain' ? undefined : `${kinds[client]} of ${name}`

export class Actors {
  readonly #cluster: Cluster
  readonly #draw: Choices['draw']
  readonly #owners: Owner[] = []
  /** Requests that a thief may have a copy of, answers included. */
  readonly #seen: Plan[] = []
  /** Assertions that were recorded: their requests were answered. */
  readonly #spent = new Map<ClientName, NonNullable<Plan['assertion']>>()
  #made = 0

  constructor(cluster: Cluster, { draw }: Choices) {
    this.#cluster = cluster
    this.#draw = draw
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[this.#draw(items.length || 1)] as Item
  }

  #oneIn(times: number): boolean {
    return this.#draw(times) === times - 1
  }

  /** A person lets a client in, in a browser or at a device. */
  authorize(): void {
    const name = `owner ${this.#owners.length + 1}`
    const client = this.#pick(names)
    const isDevice = client !== 'plain' && client !== 'tls' && this.#oneIn(4)
    const code = `${isDevice ? 'device code' : 'code'} of ${name}`
    const key = keyOf(client, name)
    // RFC 9449 section 10: half of the clients of DPoP name their key in the authorization request.
    const isBound = isDevice || (key?.startsWith('key') === true && this.#draw(2) === 0)
    const expiresAt =
      Math.floor(this.#cluster.time) + lifetimes[isDevice ? 'DeviceCode' : 'AuthorizationCode']
    this.#cluster.origins.set(code, {
      kind: isDevice ? 'device code' : 'code',
      family: code,
      key: isBound ? key : undefined,
      expiresAt,
    })
    this.#cluster.say(
      `${name} of client ${client} gets the ${code}${isBound ? ', bound' : ''}`,
      code,
    )
    const tokens = { refreshTokens: [], accessTokens: [], isDone: false }
    const endsWithSession = this.#draw(2) === 0
    const owner: Owner = { name, client, key, code, isDevice, endsWithSession, ...tokens }
    this.#owners.push(owner)
    this.#store(owner, { isBound, expiresAt })
  }

  /** What the engine writes. */
  #store(
    { name, client, key, code, isDevice, endsWithSession: expiresWithSession }: Owner,
    { isBound, expiresAt }: { isBound: boolean; expiresAt: number },
  ): void {
    const { store, time } = this.#cluster
    const grantId = `grant of ${name}`
    const resources = { [api]: 'read' }
    const [accountId, sessionUid] = [`account of ${name}`, `session of ${name}`]
    const grant = { accountId, clientId: client, openid: { scope: 'read' }, resources }
    const names = { grantId: undefined, uid: undefined }
    const until = { expiresAt: Math.floor(time) + tenYearsS }
    store.write({ ...artifactKey('Grant', grantId), ...names, payload: grant, ...until })
    const person = { accountId, grantId, sessionUid, expiresWithSession }
    const resource = this.#draw(2) === 0 ? { resource: api } : {}
    const common = { clientId: client, exp: expiresAt, scope: 'read', ...resource }
    if (!isDevice) {
      const pkce = { codeChallenge: challenge, codeChallengeMethod: 'S256', redirectUri }
      const payload = { ...common, ...person, ...pkce, ...(isBound && { dpopJkt: key }) }
      const row = { ...artifactKey('AuthorizationCode', code), uid: undefined, grantId }
      store.write({ ...row, payload, expiresAt })
      return
    }
    const payload = { ...common, [key?.startsWith('cert') ? 'x5t#S256' : 'jkt']: key }
    const row = { ...artifactKey('DeviceCode', code), grantId: undefined, uid: code }
    store.write({ ...row, payload, expiresAt })
    const decided = { kind: 'DeviceCode', uid: code, ...person, payload: { ...payload, ...person } }
    store.advance(decided, { from: null, to: 'decided' })
  }

  ownerActs(): void {
    if (this.#owners.length === 0) this.authorize()
    const owner = this.#pick(this.#owners)
    if (owner.isDone) return
    const { refreshTokens } = owner
    const key = this.#keyOf(owner)
    const use = (credential: string) => this.#request(this.#redeem(owner, credential, key))
    const token = this.#pick([undefined, ...owner.accessTokens])
    const act = this.#draw(13)
    if (act < 8) use(newestOf(owner))
    // Two tabs.
    if (act === 7) use(newestOf(owner))
    // A client that was restored from a backup.
    if (act === 8) use(this.#pick([newestOf(owner), owner.code, ...owner.refreshTokens]))
    if (act === 9 && this.#oneIn(2)) this.#request(this.#about(owner, 'revoke', newestOf(owner)))
    if (act === 10 && token) this.#request(this.#about(owner, 'inspect', token))
    if (act === 12 && key && refreshTokens.length > 0 && this.#cluster.hasOverlap) {
      owner.next = `${key}, next`
      const plan = this.#redeem(owner, newestOf(owner), key)
      this.#request({ ...plan, form: { ...plan.form, successor: owner.next } })
    }
    if (act === 11) {
      const form = { grant_type: 'client_credentials', resource: api }
      this.#request({ ...this.#redeem(owner, owner.code), credential: undefined, form })
    }
  }

  /** The key that an owner shows: the next one, or any where its client authenticates it. */
  #keyOf({ client, key, next, refreshTokens }: Owner): string | undefined {
    const isOfAnyKey = client === 'fapi' && refreshTokens.length > 0
    if (isOfAnyKey && this.#oneIn(3)) return `${key}, other`
    return next && this.#oneIn(2) ? next : key
  }

  /** A person ends what their tokens depend on. */
  personActs(): void {
    const owner = this.#pick(this.#owners) as Owner | undefined
    const token = owner?.refreshTokens.at(-1)
    if (!owner || token === undefined) return
    const [grant, account] = [`grant of ${owner.name}`, `account of ${owner.name}`]
    const act = this.#draw(3)
    if (act === 0) {
      this.#cluster.withdraw(token, `the ${grant}`, (store) =>
        store.removeGrant(artifactKey('Grant', grant), ''),
      )
    }
    if (act === 1) this.#cluster.withdraw(token, `the ${account}`, (store) => store.end(account))
    if (act === 2 && owner.endsWithSession) {
      const session = `session of ${owner.name}`
      this.#cluster.withdraw(token, `the ${session}`, (store) => store.end(session))
    }
  }

  /** A thief repeats a request as it was, or uses the credential of one with another key. */
  thiefActs(): void {
    const stolen = this.#pick(this.#seen) as Plan | undefined
    if (!stolen) return
    const { client, credential, form } = stolen
    const learnFrom = (answer: Answer | undefined) => {
      const next = answer && 'granted' in answer ? answer.granted.refreshToken : undefined
      if (next) this.#seen.push({ ...stolen, credential: next, form: refreshing(next) })
    }
    if (this.#oneIn(3)) {
      this.#request({ ...stolen, by: 'a thief with the proof', learnFrom: learnFrom })
      return
    }
    if (stolen.does !== 'redeem' || credential === undefined) return
    const key = keyOf(client, 'a thief')
    const isCode = form.code_verifier !== undefined
    const lacksVerifier = isCode && !this.#oneIn(4)
    const guess = { code_verifier: lacksVerifier ? 'w'.repeat(43) : verifier }
    const guessed = { ...form, ...(isCode && guess) }
    const lacksSecret = lacksVerifier || client === 'fapi'
    const shown = { key, ...this.#proofsOfThief(client, key), lacksSecret, form: guessed }
    this.#request({ ...stolen, by: 'a thief', ...shown, learnFrom })
  }

  /** Asks for everything that should be good now, and for what should not. */
  async probe(): Promise<void> {
    for (const owner of this.#owners) {
      for (const token of owner.accessTokens.slice(-2)) {
        this.#request(this.#about(owner, 'inspect', token))
        await this.#cluster.settle()
      }
      const [newest, key] = [newestOf(owner), keyOf(owner.client, 'a thief')]
      if (key !== undefined) {
        const plan = { ...this.#redeem(owner, newest), by: 'a thief', lacksSecret: true }
        const form = {
          ...plan.form,
          ...(newest === owner.code && { code_verifier: 'w'.repeat(43) }),
        }
        this.#request({
          ...plan,
          form,
          key,
          ...this.#proofsOfThief(owner.client, key),
          learnFrom() {},
        })
        await this.#cluster.settle()
      }
      this.#request(this.#redeem(owner, newest))
      await this.#cluster.settle()
    }
  }

  #request(plan: Plan): void {
    this.#seen.push(plan)
    const { client, assertion } = plan
    const learnFrom = (answer: Answer | undefined) => {
      // Of a client that was not authenticated nothing is recorded.
      const isRecorded = answer && !('refused' in answer && answer.refused === 'invalid_client')
      if (isRecorded && assertion) this.#spent.set(client, assertion)
      plan.learnFrom(answer)
    }
    this.#cluster.request({ ...plan, learnFrom })
  }

  /** Of a client whose tokens are bound by its assertions alone, a thief has those that were used. */
  #proofsOfThief(client: ClientName, key: string | undefined): Pick<Plan, 'proof' | 'assertion'> {
    const made = this.#proofs(client, key)
    return client === 'fapi' ? { ...made, assertion: this.#spent.get(client) } : made
  }

  /** Most clients are on time; some clocks are at the edges of what is accepted. */
  #proofs(client: ClientName, key: string | undefined): Pick<Plan, 'proof' | 'assertion'> {
    this.#made += 1
    const now = Math.floor(this.#cluster.time)
    const { isCalm } = this.#cluster
    const assertion = signing.has(client)
      ? { jti: `assertion ${this.#made}`, exp: now + (isCalm ? 60 : this.#pick([60, 600])) }
      : undefined
    if (!key?.startsWith('key')) return { proof: undefined, assertion }
    const skewS = isCalm ? 0 : this.#pick([0, 0, 0, 300, -300])
    return { proof: { jti: `proof ${this.#made}`, iat: now + skewS }, assertion }
  }

  #redeem(owner: Owner, credential: string, key = owner.key): Plan {
    const { name: by, client, code, isDevice } = owner
    const ofCode = isDevice
      ? { grant_type: deviceGrant, device_code: code }
      : {
          ...{ grant_type: 'authorization_code', code },
          ...{ redirect_uri: redirectUri, code_verifier: verifier },
        }
    const form: Record<string, string> = credential === code ? ofCode : refreshing(credential)
    const learnFrom = (answer: Answer | undefined) => learn(owner, { credential, key }, answer)
    return {
      by,
      does: 'redeem',
      client,
      key,
      credential,
      form,
      learnFrom,
      ...this.#proofs(client, key),
    }
  }

  #about({ name: by, client, key }: Owner, does: 'revoke' | 'inspect', token: string): Plan {
    const { assertion } = this.#proofs(client, undefined)
    const what = { credential: token, form: { token }, proof: undefined, assertion }
    return { by, does, client, key, ...what, learnFrom() {} }
  }
}

function learn(
  owner: Owner,
  { credential, key }: Pick<Plan, 'credential' | 'key'>,
  answer: Answer | undefined,
): void {
  if (!answer || credential !== newestOf(owner)) return
  if ('refused' in answer && key === owner.key) owner.isDone = answer.refused === 'invalid_grant'
  if (!('granted' in answer)) return
  const { refreshToken, accessToken } = answer.granted
  if (refreshToken) owner.refreshTokens.push(refreshToken)
  if (accessToken) owner.accessTokens.push(accessToken)
  owner.key = key
}
