/** Decides about a request of a browser: its session, what the route asks for, or who has to sign in. */
import type { Entered } from '../edge.ts'
import type { PolicyRefusal } from '../events.ts'
import type { Rule } from '../policy.ts'
import { Refusal } from '../refusal.ts'
import { type Holder, sessionHolder } from '../streams.ts'
import { type Answer, json, page, redirect } from './answers.ts'
import { readCookies } from './cookies.ts'
import { isNavigation, isOwn, onlyValue, safeReturn } from './requests.ts'
import { type Found, settlingMs } from './session-check.ts'
import type { Session, SessionKey } from './sessions.ts'
import { paths, type Side } from './side.ts'
import { demandsOf, endSession } from './sign-in-pages.ts'
import type { Secrets } from './upstream-tokens.ts'

/** What becomes of a request without an access token. */
export type Admission =
  | Readonly<{
      kind: 'session'
      session: Session
      /** What has proven the key of the session; undefined: nothing. */
      boundBy: SessionKey['method'] | undefined
      secrets: Secrets | undefined
      /** Of a stream that the request may open. */
      holder: Holder
    }>
  | Readonly<{ kind: 'answer'; answer: Answer }>
  /** The form of a page whose session has ended can be kept over the sign-in. */
  | Readonly<{ kind: 'keep' }>

type BoundRule = Extract<Rule, { access: 'bound' }>

/** Milliseconds that a browser has to register its key after a sign-in. */
const registrationMs = 5000

/** Seconds by which the clock of the provider may be wrong. */
const clockToleranceS = 10

/** Decides about a request. @throws {@link Refusal} `cross_origin`, `token_unavailable` */
export async function admit(
  side: Side,
  entered: Entered,
  { rule, isUpgrade }: Readonly<{ rule: BoundRule; isUpgrade: boolean }>,
): Promise<Admission> {
  const found = await side.check.find(entered.fields)
  if (found === undefined || found.state === 'unproven') {
    if (isForm(side, entered)) return { kind: 'keep' }
    return askToSignIn(side, entered, { error: 'login_required', message: 'Sign in first' })
  }
  const { id, subject: sub, key } = found.session
  const facts = { requestId: entered.requestId, route: rule.route, sub, session: id, jkt: key?.jkt }
  const refused = (code: PolicyRefusal) =>
    side.report({ type: 'policy_refused', application: side.config.origin, ...facts, code })
  const isAct = isUpgrade || !/^(?:GET|HEAD|OPTIONS)$/.test(entered.method)
  if (isAct && !isFromOwn(side, entered.fields)) {
    refused('cross_origin')
    throw new Refusal('cross_origin')
  }
  const unmet = unmetBy(side, entered, { found, rule })
  if (unmet !== undefined) {
    refused(unmet.code)
    return unmet.admission
  }
  const { session } = found
  const renewal = await renew(side, entered, session)
  if (renewal !== undefined) return { kind: 'answer', answer: renewal }
  try {
    const secrets = side.config.upstreamToken ? await side.tokens.secretsOf(session) : undefined
    const holder = holderFor(side, found, rule)
    return { kind: 'session', session, boundBy: boundByOf(found), secrets, holder }
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 'session_ended') throw error
    await endSession(side, session, 'provider', entered.requestId)
    const message = 'The session has ended'
    return askToSignIn(side, entered, { error: 'login_required', message })
  }
}

/** What has proven the key of a session, on this request. */
function boundByOf({ session: { key }, state }: Found): SessionKey['method'] | undefined {
  if (key === undefined || state !== 'bound') return undefined
  return key.method === 'page-key' ? 'page-key' : 'dbsc'
}

/** How long a stream of this session lasts, and what ends it before. */
function holderFor({ sessions, now }: Side, found: Found, rule: BoundRule): Holder {
  const { session, untilMs } = found
  return sessionHolder(session, {
    untilMs,
    async isOver() {
      const current = await sessions.find(session.id, now())
      if (current === undefined) return true
      // A client that opened it without a key need not be the browser that has registered one,
      // or another one, since.
      if (session.key?.jkt !== current.key?.jkt) return true
      const { scopes = [] } = rule.requirements
      return !isInGroups(current.claims, rule.groups) || !hasScopes(current.claims, scopes)
    },
  })
}

/** Whether a page of this origin sends a form, and its session has ended while it was filled in. */
function isForm({ config }: Side, entered: Entered): boolean {
  const type = onlyValue(entered.fields, 'content-type') ?? ''
  return (
    entered.method === 'POST' &&
    isNavigation(entered) &&
    isOwn(entered.fields, config.origin) === true &&
    /^application\/x-www-form-urlencoded *(?:;|$)/i.test(type)
  )
}

type Wanted = Readonly<{ error: string; message: string }>

/** Navigations are led to the sign-in; other requests get a link to it. */
function askToSignIn({ config }: Side, entered: Entered, { error, message }: Wanted): Admission {
  const { method, target } = entered
  if (isNavigation(entered) && method !== 'POST') {
    const query = new URLSearchParams({ return: target.path + target.query })
    return { kind: 'answer', answer: redirect(`${paths.signIn}?${query}`) }
  }
  const isStepUp = error !== 'login_required'
  const query = new URLSearchParams(isStepUp ? { for: target.path, method } : {}).toString()
  const link = `${config.origin}${paths.signIn}${query && `?${query}`}`
  const body = { error, error_description: message, sign_in: link }
  return { kind: 'answer', answer: json(401, body, ['WWW-Authenticate', 'DPoP']) }
}

function refuse(entered: Entered, error: string, message: string): Admission {
  const answer = isNavigation(entered)
    ? page(403, { title: 'Not allowed', html: `<p>${message}</p>` })
    : json(403, { error, error_description: message })
  return { kind: 'answer', answer }
}

/** A page of another site, a neighbouring subdomain included, must not act with this session. */
function isFromOwn({ config, openid }: Side, fields: readonly string[]): boolean {
  const from = onlyValue(fields, 'origin')
  if (from !== undefined && openid.trustedOrigins.includes(from)) return true
  // Browsers without Sec-Fetch-Site send the origin; a page without a referrer has the origin null.
  const isOther = from !== undefined && from !== config.origin && from !== 'null'
  return !isOther && isOwn(fields, config.origin) !== false
}

/** What the rule of a request asks for and its session does not have. */
function unmetBy(
  side: Side,
  entered: Entered,
  { found, rule }: Readonly<{ found: Found; rule: BoundRule }>,
): Readonly<{ code: PolicyRefusal; admission: Admission }> | undefined {
  const { claims, askedAcr } = found.session
  const { acrValues, maxAge, scopes = [] } = rule.requirements
  if (!isInGroups(claims, rule.groups)) {
    const text = 'You are in none of the groups that may use this.'
    return { code: 'groups', admission: refuse(entered, 'groups', text) }
  }
  if (!hasScopes(claims, scopes)) {
    const text = 'Your sign-in does not extend to this.'
    const code = 'insufficient_scope'
    return { code, admission: refuse(entered, code, text) }
  }
  const isStrong = acrValues === undefined || acrValues.includes(String(claims.acr))
  const sinceS = side.now() / 1000 - Number(claims.auth_time ?? 0)
  const isFresh = maxAge === undefined || sinceS <= maxAge + clockToleranceS
  if (isStrong && isFresh) {
    return !isAsBound(rule.bound, boundByOf(found))
      ? { code: 'not_bound', admission: notBound(side, entered, found.session) }
      : undefined
  }
  // A provider that did not do it the first time is not asked again and again.
  if (isFresh && acrValues?.every((value) => askedAcr.includes(value))) {
    const text = 'Your sign-in does not have the strength that this needs.'
    return { code: 'acr', admission: refuse(entered, 'acr', text) }
  }
  const message = isFresh ? 'A stronger sign-in is needed' : 'A more recent sign-in is needed'
  const code = 'insufficient_user_authentication'
  return { code, admission: askToSignIn(side, entered, { error: code, message }) }
}

/** A key of a page is less than one of the browser: only routes that name it accept it. */
function isAsBound(wanted: BoundRule['bound'], boundBy: SessionKey['method'] | undefined): boolean {
  if (wanted === false) return true
  return boundBy === 'dbsc' || (wanted === 'page-key' && boundBy === 'page-key')
}

function hasScopes({ scope }: Session['claims'], wanted: readonly string[]): boolean {
  const granted = String(scope ?? '').split(' ')
  return wanted.every((each) => granted.includes(each))
}

/** Whether a person is in one of the groups of a route. */
export function isInGroups(
  { groups }: Readonly<Record<string, unknown>>,
  wanted: readonly string[] | undefined,
): boolean {
  if (wanted === undefined) return true
  return Array.isArray(groups) && wanted.some((group) => groups.includes(group))
}

function notBound({ now }: Side, entered: Entered, { key, startedAtMs }: Session): Admission {
  // A browser may still replace the key of a page by its own.
  const isSettled = key !== undefined && key.method !== 'page-key'
  const waitsUntilMs = isSettled ? key.atMs + settlingMs : startedAtMs + registrationMs
  if (now() >= waitsUntilMs || !isNavigation(entered) || entered.method === 'POST') {
    const message = 'This needs a browser that binds its session to a key of its device.'
    return refuse(entered, 'not_bound', `${message} This browser has not done so.`)
  }
  const html = '<p>Your browser is binding this session to a key of its device.</p>'
  const fields = ['Retry-After', '1', 'Refresh', '1']
  return { kind: 'answer', answer: page(503, { title: 'One moment', html }, fields) }
}

/** Asks the provider again, without a page, when the ID token has run out. */
async function renew(side: Side, entered: Entered, session: Session): Promise<Answer | undefined> {
  const { now, renewals, starts, signIns, config } = side
  const { method, target, fields, address } = entered
  const isDue = now() >= session.renewAtMs && !renewals.arePaused(now())
  const isPage = isNavigation(entered) && onlyValue(fields, 'sec-fetch-dest') !== 'iframe'
  if (!isDue || method !== 'GET' || !isPage) return undefined
  const returnTo = safeReturn(target.path + target.query, config.paths)
  const intent = { returnTo, ...demandsOf(side, 'GET', target.path), silent: true }
  try {
    return await starts.run(address, () => signIns.begin(intent, readCookies(fields)))
  } catch (cause) {
    // The next page tries again: strangers can take all places.
    if (cause instanceof Refusal) return undefined
    // Sessions continue while the provider cannot be asked.
    renewals.pause(now())
    const code = 'provider_unavailable'
    const { requestId } = entered
    side.report({ type: 'sign_in_failed', application: config.origin, requestId, code, cause })
    return undefined
  }
}
