import { calculateJwkThumbprint, decodeProtectedHeader } from 'jose'
import { lifetimes } from '../../src/config/lifetimes.ts'

/*
 * One judge for every run in which something goes wrong on purpose: the simulation, the fault tests
 * and the cluster rehearsal record what each request asked for and what its sender saw, and this file
 * decides afterwards whether any order of what happened on the server explains all of it.
 *
 * A credential is a register that is written once: it is fresh, used, or has ended with its family. A
 * request takes effect at one moment between its beginning and its end; one without an answer may
 * have taken effect or not.
 */

/** A moment, in the order of the history and in seconds of the clock. */
export interface Moment {
  readonly order: number
  readonly at: number
}

export interface Granted {
  readonly refreshToken?: string | undefined
  readonly refreshTokenExpiresAt?: number | undefined
  /** How the refresh token is used, where it is not once and by the key of its request. */
  readonly refreshTokenUse?: KeptUse | undefined
  readonly accessToken?: string | undefined
  readonly accessTokenExpiresAt?: number | undefined
  /** The key that the access token is bound to; left out where the sender cannot see it. */
  readonly boundTo?: string | undefined
}

interface KeptUse {
  /** Whether it stays good when it is used. */
  readonly isKept: boolean
  /** Whether any key may use it that its client authenticates. */
  readonly isOfAnyKey: boolean
}

/** What the sender saw. A 503 and a connection that broke are no answer: undefined. */
export type Answer =
  | { readonly granted: Granted }
  | { readonly refused: string }
  | { readonly active: boolean; readonly boundTo?: string | undefined }

/** One request about one credential. */
export interface Use {
  readonly does: 'redeem' | 'revoke' | 'inspect'
  /** Who sends it, for people. */
  readonly by: string
  /** The code or token; undefined for the client_credentials grant. */
  readonly credential: string | undefined
  /** The key that the request shows; undefined for none. */
  readonly key: string | undefined
  /** The one-time value of its proof, if it has one. */
  readonly proof: string | undefined
  /** That of the assertion by which its client authenticates, if it does. */
  readonly assertion?: string | undefined
  /** The key that a refresh names as the next one. */
  readonly names?: string | undefined
  /**
   * Whether its sender lacks the verifier of a code, or what the client authenticates by: then the
   * credential counts as not shown.
   */
  readonly lacksSecret?: boolean
  readonly began: Moment
  ended: Moment | undefined
  answer: Answer | undefined
}

/** What is known of a credential from where it came from. */
export interface Credential {
  readonly kind: 'code' | 'device code' | 'refresh token' | 'access token'
  /** The chain of one authorization, by the name of its code. */
  readonly family: string
  /** The only key that may use it; undefined for any. */
  readonly key: string | undefined
  readonly expiresAt: number | undefined
  /** Whether it stays good when it is used. */
  readonly isKept?: boolean
  /** Keys that may have been named as the next one, and until when they are good beside it. */
  readonly next?: readonly NextKey[]
}

interface NextKey {
  readonly key: string
  readonly until: number
  /** Whether no other request can have named another one instead. */
  readonly isCertain: boolean
}

export interface History {
  readonly uses: readonly Use[]
  /** Codes, which no answer in the history has brought. */
  readonly origins: ReadonlyMap<string, Credential>
  /** When credentials have expired that the test itself has ended. */
  readonly expiries?: ReadonlyMap<string, number>
  /** Ends of families in the database, where these can be seen. */
  readonly ends?: readonly { readonly family: string; readonly order: number }[]
  /** Seconds for which a key and the next one that it names are both good. */
  readonly overlapS?: number | undefined
  /** Seconds for which a refresh may be repeated by its key; 0 for never. */
  readonly graceS: number
  /** Seconds by which clocks and requests may be apart. */
  readonly slackS: number
}

export const rules = [
  'a proof is good once',
  'only its own key uses a credential',
  'a credential is redeemed once',
  'nothing is granted after its end',
  'an answered grant is never lost',
  'revocation is final',
  'a family ends only for a reason',
] as const

export interface Violation {
  readonly rule: (typeof rules)[number]
  readonly what: string
  /** The family that it is about. */
  readonly family?: string | undefined
}

const orderOf = (moment: Moment | undefined) => moment?.order ?? Number.POSITIVE_INFINITY
const timeOf = (moment: Moment | undefined) => moment?.at ?? Number.POSITIVE_INFINITY
const grantedOf = ({ answer }: Use) => (answer && 'granted' in answer ? answer.granted : undefined)
const isRefused = ({ answer }: Use) =>
  answer !== undefined && 'refused' in answer && answer.refused === 'invalid_grant'
/** Whether the credential of a request was good at that time. */
const isGood = (use: Use) =>
  use.does !== 'revoke' &&
  (grantedOf(use) !== undefined || (use.answer && 'active' in use.answer && use.answer.active))
const endOf = ({ expiresAt = Number.POSITIVE_INFINITY }: Credential) => expiresAt
const isInactive = ({ answer }: Use) => answer !== undefined && 'active' in answer && !answer.active

/** Everything in a history that no correct server could have answered. */
export function judge(history: History): Violation[] {
  const ledger = createLedger(history)
  return [
    ...reusedProofs(ledger),
    ...history.uses.flatMap((use) => [
      ...wrongKeys(use, ledger, history),
      ...lateGrants(use, ledger, history),
      ...losses(use, ledger, history),
    ]),
    ...[...ledger.redemptions.values()].flatMap((uses) => secondGrants(uses, ledger, history)),
    ...revivals(history, ledger),
    ...groundlessEnds(history, ledger),
  ]
}

interface Ledger {
  readonly credentials: ReadonlyMap<string, Credential>
  /** By credential: the requests that redeem it, with its key. */
  readonly redemptions: ReadonlyMap<string, readonly Use[]>
  /** By family: the requests that may have ended it. */
  readonly endings: ReadonlyMap<string, readonly Use[]>
  /** By family: the requests about its credentials. */
  readonly families: ReadonlyMap<string, readonly Use[]>
  /** By proof: the requests that show it. */
  readonly proofs: ReadonlyMap<string | undefined, readonly Use[]>
}

function createLedger(history: History): Ledger {
  const credentials = new Map(history.origins)
  const answered = history.uses.filter(grantedOf)
  for (const use of answered.toSorted((a, b) => orderOf(a.ended) - orderOf(b.ended))) {
    const source = credentials.get(use.credential ?? '')
    const granted = grantedOf(use)
    if (!source || !granted || use.does !== 'redeem') continue
    const { refreshToken, refreshTokenExpiresAt, accessToken, accessTokenExpiresAt } = granted
    const { isKept = false, isOfAnyKey = false } = granted.refreshTokenUse ?? {}
    const { family } = source
    const next = [...(source.next ?? []), ...namedKeys(use, history)]
    const common = { family, key: use.key, next }
    const made = [
      ['refresh token', refreshToken, refreshTokenExpiresAt],
      ['access token', accessToken, accessTokenExpiresAt],
    ] as const
    for (const [kind, value, expiresAt] of made) {
      if (!value || credentials.has(value)) continue
      const kept = kind === 'refresh token' && { isKept, ...(isOfAnyKey && { key: undefined }) }
      credentials.set(value, { ...common, ...kept, kind, expiresAt })
    }
  }
  for (const [value, expiresAt] of history.expiries ?? []) {
    const credential = credentials.get(value)
    if (credential) credentials.set(value, { ...credential, expiresAt })
  }
  const redemptions = Map.groupBy(
    history.uses.filter((use) => use.does === 'redeem' && showsIts(credentials, use, history)),
    (use) => use.credential ?? '',
  )
  const endings = Map.groupBy(
    history.uses.filter((use) => mayEnd(use, { credentials, redemptions }, history)),
    (use) => credentials.get(use.credential ?? '')?.family ?? '',
  )
  const families = Map.groupBy(
    history.uses,
    ({ credential = '' }) => credentials.get(credential)?.family ?? '',
  )
  const proofs = Map.groupBy(history.uses, ({ proof }) => proof)
  return { credentials, redemptions, endings, families, proofs }
}

/** The keys that requests about one credential have named, one of which was granted. */
function namedKeys(granted: Use, { uses, overlapS = 0 }: History): NextKey[] {
  const rivals = uses.filter(
    ({ does, credential }) => does === 'redeem' && credential === granted.credential,
  )
  return rivals.flatMap(({ names: key, began }) =>
    key ? [{ key, until: began.at + overlapS, isCertain: rivals.length === 1 }] : [],
  )
}

/** The last of the times until which a request's key is good as the next one of its credential. */
function nextUntil({ next = [] }: Credential, { key }: Use, onlyCertain = false): number {
  const named = next.filter((one) => one.key === key && (one.isCertain || !onlyCertain))
  return Math.max(...named.map(({ until }) => until), Number.NEGATIVE_INFINITY)
}

/** Whether a request may have been refused for its proof, which another one has shown: then it says nothing. */
function repeatsProof(use: Use, { proofs }: Ledger): boolean {
  const others = use.proof === undefined ? [] : (proofs.get(use.proof) ?? [])
  return others.some((other) => other !== use && other.began.order < orderOf(use.ended))
}

/** Whether a request shows what its credential needs: only such a one takes effect. */
function showsIts(
  credentials: Ledger['credentials'],
  use: Use,
  { slackS }: Pick<History, 'slackS'>,
): boolean {
  const credential = credentials.get(use.credential ?? '')
  if (!credential || use.lacksSecret) return false
  // PKCE comes first: a code that is used again ends its family, whatever key the request has.
  if (credential.kind === 'code' || credential.key === undefined) return true
  return credential.key === use.key || use.began.at <= nextUntil(credential, use) + slackS
}

const hasGrace = ({ kind, key }: Credential, { graceS }: History) =>
  kind === 'refresh token' && key !== undefined && graceS > 0

/** Other requests that may have used the credential of this one before it was over. */
function rivals(use: Use, { redemptions }: Pick<Ledger, 'redemptions'>): Use[] {
  return (redemptions.get(use.credential ?? '') ?? []).filter(
    (other) =>
      other !== use &&
      other.began.order < orderOf(use.ended) &&
      (other.answer === undefined || grantedOf(other) !== undefined),
  )
}

/** Whether a request may have ended the family of its credential: it revokes, or it is a reuse. */
function mayEnd(
  use: Use,
  ledger: Pick<Ledger, 'credentials' | 'redemptions'>,
  history: History,
): boolean {
  const credential = ledger.credentials.get(use.credential ?? '')
  if (!credential || use.does === 'inspect') return false
  if (use.does === 'revoke') {
    return credential.kind.endsWith('token') && (!use.answer || grantedOf(use) !== undefined)
  }
  if (grantedOf(use) || !showsIts(ledger.credentials, use, history)) return false
  if (credential.isKept) return false
  // One that expires between the statement that finds it and the one that consumes it counts as used.
  if (timeOf(use.ended) >= endOf(credential) - history.slackS) return true
  const earlier = rivals(use, ledger)
  if (earlier.length === 0) return false
  const first = Math.min(...earlier.map(({ began }) => began.at))
  return (
    !hasGrace(credential, history) || timeOf(use.ended) > first + history.graceS - history.slackS
  )
}

/** Whether a request was answered in a way that leaves no doubt that its family has ended. */
function mustEnd(use: Use, ledger: Ledger, history: History): boolean {
  const { graceS, slackS } = history
  const credential = ledger.credentials.get(use.credential ?? '')
  if (!credential || !mayEnd(use, ledger, history)) return false
  if (timeOf(use.ended) >= endOf(credential) - slackS) return false
  if (use.does === 'revoke') return grantedOf(use) !== undefined
  if (credential.kind !== 'code' && credential.key !== use.key) return false
  const patience = hasGrace(credential, history) ? graceS + slackS : 0
  return (
    isRefused(use) &&
    !repeatsProof(use, ledger) &&
    rivals(use, ledger).some(
      (other) =>
        grantedOf(other) &&
        orderOf(other.ended) < use.began.order &&
        use.began.at >= timeOf(other.ended) + patience,
    )
  )
}

/** A violation by a request, of the family of its credential. */
function violation(
  rule: Violation['rule'],
  what: string,
  { credential = '' }: Use,
  { credentials }: Ledger,
): Violation {
  return { rule, what, family: credentials.get(credential)?.family }
}

function reusedProofs(ledger: Ledger): Violation[] {
  const assertions = Map.groupBy([...ledger.proofs.values()].flat(), ({ assertion }) => assertion)
  return [...ledger.proofs, ...assertions].flatMap(([proof, uses]) => {
    const [first, second] = uses.filter(grantedOf)
    if (proof === undefined || !first || !second) return []
    return [violation('a proof is good once', `${proof} was good twice`, first, ledger)]
  })
}

function wrongKeys(use: Use, ledger: Ledger, { slackS }: History): Violation[] {
  const granted = grantedOf(use)
  const rule = 'only its own key uses a credential'
  const credential = ledger.credentials.get(use.credential ?? '')
  if (!granted || use.does !== 'redeem') {
    const { boundTo } = use.answer && 'active' in use.answer ? use.answer : {}
    if (boundTo === undefined || !credential || boundTo === credential.key) return []
    return [violation(rule, `a token of ${credential.key} is bound to ${boundTo}`, use, ledger)]
  }
  if (use.lacksSecret && credential) {
    return [
      violation(rule, `${use.credential} was good for a sender without its secret`, use, ledger),
    ]
  }
  const isNext = credential && use.began.at <= nextUntil(credential, use) + slackS
  if (credential?.key !== undefined && credential.key !== use.key && !isNext) {
    const what = `${use.credential} belongs to ${credential.key} and was good for ${use.key}`
    return [violation(rule, what, use, ledger)]
  }
  if (!('boundTo' in granted) || granted.boundTo === use.key) return []
  return [violation(rule, `a token of ${use.key} is bound to ${granted.boundTo}`, use, ledger)]
}

function lateGrants(use: Use, ledger: Ledger, { slackS }: History): Violation[] {
  const { expiresAt } = ledger.credentials.get(use.credential ?? '') ?? {}
  if (!isGood(use) || expiresAt === undefined || use.began.at <= expiresAt + slackS) return []
  const what = `${use.credential} has expired and was good later`
  return [violation('nothing is granted after its end', what, use, ledger)]
}

/** Of several grants of one credential all but a refresh repeated in time are too many. */
function secondGrants(uses: readonly Use[], ledger: Ledger, history: History): Violation[] {
  const good = uses.filter(grantedOf).toSorted((a, b) => orderOf(a.ended) - orderOf(b.ended))
  const [first, ...others] = good
  const credential = ledger.credentials.get(first?.credential ?? '')
  if (!first || !credential || credential.isKept || others.length === 0) return []
  const found = (what: string) => [
    violation('a credential is redeemed once', `${first.credential} ${what}`, first, ledger),
  ]
  if (!hasGrace(credential, history)) return found('was redeemed twice')
  if (new Set(good.map((use) => grantedOf(use)?.refreshToken)).size > 1) {
    return found('has two successors')
  }
  const until = timeOf(first.ended) + history.graceS + history.slackS
  return others.some(({ began }) => began.at > until) ? found('was redeemed too late') : []
}

/** A refusal that nothing in the history explains: what was granted before is lost. */
function losses(use: Use, ledger: Ledger, history: History): Violation[] {
  const credential = ledger.credentials.get(use.credential ?? '')
  if (!credential || !(isRefused(use) || isInactive(use)) || repeatsProof(use, ledger)) return []
  // Another key is refused whatever happened.
  const isNext = timeOf(use.ended) < nextUntil(credential, use, true) - history.slackS
  const hasKey = credential.key === undefined || credential.key === use.key || isNext
  if (use.does === 'redeem' && (use.lacksSecret || !hasKey)) return []
  if (timeOf(use.ended) >= endOf(credential) - history.slackS) return []
  const endings = ledger.endings.get(credential.family) ?? []
  if (endings.some((other) => other !== use && other.began.order < orderOf(use.ended))) return []
  const earlier = rivals(use, ledger)
  const lost = (how: string) => [
    violation(
      'an answered grant is never lost',
      `a ${credential.kind}, ${use.credential}, is refused ${how}`,
      use,
      ledger,
    ),
  ]
  if (credential.isKept) return lost('and nothing has ended it')
  if (earlier.length === 0) return lost('and nothing has used it')
  const first = Math.min(...earlier.map(({ began }) => began.at))
  const isInTime = timeOf(use.ended) < first + history.graceS - history.slackS
  if (use.does === 'inspect' || !hasGrace(credential, history) || !isInTime) return []
  // A refresh by another key makes another token of the successor.
  if (earlier.some(({ key }) => key !== use.key)) return []
  const successors = earlier.map((other) => grantedOf(other)?.refreshToken ?? '')
  const isSuccessorUsed = successors
    .flatMap((successor) => ledger.redemptions.get(successor) ?? [])
    .some(({ began }) => began.order < orderOf(use.ended))
  return isSuccessorUsed ? [] : lost('in its grace period, and its successor is unused')
}

/** What is good of a family that has ended before. */
function revivals(history: History, ledger: Ledger): Violation[] {
  return [...ledger.endings].flatMap(([family, endings]) => {
    const certain = endings.filter((use) => mustEnd(use, ledger, history))
    const ended = Math.min(...certain.map((use) => orderOf(use.ended)))
    return (ledger.families.get(family) ?? [])
      .filter((use) => isGood(use) && use.began.order > ended)
      .map((use) => {
        const what = `${use.credential} is good after its family has ended`
        return violation('revocation is final', what, use, ledger)
      })
  })
}

function groundlessEnds({ ends = [] }: History, { endings }: Ledger): Violation[] {
  return ends
    .filter(({ family, order }) => !endings.get(family)?.some(({ began }) => began.order < order))
    .map(({ family }) => {
      const what = 'a family has ended, and no request was a reuse or a revocation'
      return { rule: 'a family ends only for a reason', what, family } as const
    })
}

export type Recorder = ReturnType<typeof createRecorder>

/**
 * Records requests as they are sent, for {@link judge}.
 *
 * @param now seconds since the epoch.
 */
export function createRecorder({
  graceS,
  slackS = 2,
  now = () => Date.now() / 1000,
}: {
  graceS: number
  slackS?: number
  now?: () => number
}) {
  const uses: Use[] = []
  const origins = new Map<string, Credential>()
  const expiries = new Map<string, number>()
  let order = 0
  const moment = () => ({ order: order++, at: now() })

  /** A code that was handed out, which lives for so many seconds. */
  function handOut(code: string, lifetimeS: number, bound: Partial<Credential> = {}): void {
    const expiresAt = now() + lifetimeS
    origins.set(code, { kind: 'code', family: code, key: undefined, ...bound, expiresAt })
  }

  /** A request; what comes of it is said when it is known. */
  function begin(asked: Asked): (response?: TokenResponse) => void {
    const made: Use = { ...asked, began: moment(), ended: undefined, answer: undefined }
    uses.push(made)
    return (response) => {
      made.ended = moment()
      made.answer = response && answerOf(asked, response, made.ended.at)
    }
  }

  return {
    handOut,
    begin,

    /** What a test has ended in the database. */
    expire: (credential: string) => void expiries.set(credential, now()),

    /** A `fetch` for clients and browsers: it records requests about tokens, and codes on their way. */
    watch:
      (fetch = globalThis.fetch): typeof globalThis.fetch =>
      async (input, init) => {
        const asked = await readUse(String(input), init)
        const done = asked && begin(asked)
        try {
          const response = await fetch(input, init)
          const code = /[?&]code=([^&#]+)/.exec(response.headers.get('location') ?? '')?.[1]
          if (code) handOut(code, lifetimes.AuthorizationCode)
          if (!asked) return response
          const { status } = response
          const text = await response.clone().text()
          const body = text.startsWith('{') ? JSON.parse(text) : {}
          done?.({ status, body })
          const { device_code: deviceCode, expires_in: lifetimeS } = body
          if (deviceCode) handOut(deviceCode, lifetimeS, { kind: 'device code', key: asked.key })
          return response
        } catch (error) {
          done?.()
          throw error
        }
      },

    judge: (): Violation[] => judge({ uses, origins, expiries, graceS, slackS }),
  }
}

type Asked = Pick<Use, 'does' | 'by' | 'credential' | 'key' | 'proof' | 'lacksSecret'>

interface TokenResponse {
  readonly status: number
  readonly body: {
    readonly refresh_token?: string
    readonly access_token?: string
    readonly expires_in?: number
    readonly active?: boolean
    readonly cnf?: { readonly jkt?: string }
    readonly error?: string
  }
}

const endpoints = [
  [/\/token$/, 'redeem'],
  [/\/revoke$/, 'revoke'],
  [/\/introspect$/, 'inspect'],
  // About no credential yet: its answer brings one.
  [/\/device_authorization$/, 'inspect'],
] as const

async function readUse(
  url: string,
  { body, headers }: RequestInit = {},
): Promise<Asked | undefined> {
  const { pathname } = new URL(url)
  const [, does] = endpoints.find(([path]) => path.test(pathname)) ?? []
  if (!does || !(body instanceof URLSearchParams)) return undefined
  const proof = new Headers(headers).get('dpop') ?? undefined
  const { jwk } = proof ? decodeProtectedHeader(proof) : {}
  const key = jwk && (await calculateJwkThumbprint(jwk))
  const names = ['code', 'refresh_token', 'device_code', 'token']
  const credential = names.map((name) => body.get(name) ?? undefined).find((value) => value)
  return { does, by: key ?? body.get('client_id') ?? 'a service', credential, key, proof }
}

/** Of a server or a proxy that cannot serve now nobody learns what has happened. */
function answerOf(
  { does }: Asked,
  { status, body }: TokenResponse,
  at: number,
): Answer | undefined {
  if (status >= 500) return undefined
  if (status !== 200) return { refused: body.error ?? '' }
  const { active, cnf, refresh_token: refreshToken, access_token: accessToken, expires_in } = body
  if (does === 'inspect') {
    return { active: active === true, ...(cnf?.jkt && { boundTo: cnf.jkt }) }
  }
  // A JWT outlives its family where nobody asks the server.
  const isStored = accessToken !== undefined && !accessToken.includes('.')
  const accessTokenExpiresAt = at + (expires_in ?? 0)
  return { granted: { refreshToken, ...(isStored && { accessToken, accessTokenExpiresAt }) } }
}
