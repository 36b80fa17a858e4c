/** Where a browser begins and ends a sign-in. */
import type { Entered } from '../edge.ts'
import type { SessionEnd, SignInFailure } from '../events.ts'
import { Refusal } from '../refusal.ts'
import { type Answer, escapeHtml, page, redirect } from './answers.ts'
import { expiredCookie, readCookies, sessionCookie } from './cookies.ts'
import { provingPage, registeringPage } from './page-key-pages.ts'
import { isFromElsewhere, onlyValue, safeReturn } from './requests.ts'
import type { Found } from './session-check.ts'
import type { Session } from './sessions.ts'
import { paths, type Side } from './side.ts'
import type { Intent, Outcome } from './sign-in.ts'
import { sessionOf } from './signed-in.ts'

/** Ends a session at once in this process, and everywhere else when the store is asked again. */
export async function endSession(
  side: Side,
  { id, subject: sub, key }: Session,
  reason: SessionEnd,
  requestId: string,
): Promise<void> {
  await side.sessions.end(id)
  side.recent.delete(id)
  side.streams.endOf(id)
  const facts = { requestId, sub, session: id, jkt: key?.jkt }
  side.report({ type: 'session_ended', application: side.config.origin, ...facts, reason })
}

/** What the rule of a path asks the provider for. */
export function demandsOf(
  { policy }: Pick<Side, 'policy'>,
  method: string,
  path: string,
): Pick<Intent, 'acrValues' | 'maxAgeS'> {
  try {
    const rule = policy(method, path.replace(/\?.*/s, ''))
    if (rule.access === 'public') return { acrValues: [] }
    const { acrValues = [], maxAge } = rule.requirements
    return { acrValues: [...acrValues], ...(maxAge !== undefined && { maxAgeS: maxAge }) }
  } catch (error) {
    if (error instanceof Refusal) return { acrValues: [] }
    throw error
  }
}

/**
 * Leads a browser to the provider. `return` is a path of the application; `for` and `method` name the
 * request that asked for the sign-in, where it is another one.
 */
export async function beginSignIn(
  side: Side,
  { target, fields, address, requestId }: Entered,
): Promise<Answer> {
  const query = new URLSearchParams(target.query)
  const rules = side.config.paths
  const returnTo = safeReturn(query.get('return'), rules)
  const slot = query.get('form') ?? ''
  const form = /^[01]$/.test(slot) ? Number(slot) : undefined
  const found = await side.check.find(fields)
  const between = found && provenFirst(side, fields, { found, returnTo, form, query })
  if (between !== undefined) return between
  const wanted = query.get('for')
  const demands =
    wanted === null
      ? demandsOf(side, 'GET', returnTo)
      : demandsOf(side, query.get('method') ?? 'GET', safeReturn(wanted, rules))
  const intent: Intent = { returnTo, form, ...demands, silent: false }
  try {
    return await side.starts.run(address, () => side.signIns.begin(intent, readCookies(fields)))
  } catch (cause) {
    if (cause instanceof Refusal) throw cause
    reportFailure(side, requestId, 'provider_unavailable', cause)
    return page(502, {
      title: 'Sign-in is not available',
      html: '<p>The sign-in service cannot be reached. Try again in a moment.</p>',
    })
  }
}

/** A page that has the browser show its key before it is asked to sign in: one, and then no other. */
function provenFirst(
  side: Side,
  fields: Entered['fields'],
  {
    found: { state, session },
    returnTo,
    form,
    query,
  }: Readonly<{
    found: Found
    returnTo: string
    form: number | undefined
    query: URLSearchParams
  }>,
): Answer | undefined {
  const isPageKey = session.key?.method === 'page-key'
  if (state === 'unproven' && !isPageKey) {
    return isFromElsewhere(fields) ? sameAgain(returnTo) : undefined
  }
  if (!isPageKey || side.pageKeys === undefined) return undefined
  const isAfter = query.has(afterProof)
  if (isAfter && state === 'bound') return redirect(addressAfter(returnTo, form))
  const isFrame = /^i?frame$/.test(onlyValue(fields, 'sec-fetch-dest') ?? '')
  if (isAfter || isFrame || state !== 'unproven') return undefined
  const again = new URLSearchParams(query)
  again.set(afterProof, '')
  return provingPage(side, side.pageKeys, session, `${paths.signIn}?${again}`)
}

/** A parameter of the sign-in: the page in between has been there. */
const afterProof = 'proven'

const addressAfter = (returnTo: string, form: number | undefined) =>
  form === undefined ? returnTo : `${paths.continue}?form=${form}`

/**
 * One page that opens an address again. Browsers do not prove their key for a request that another
 * site has caused; the next one is caused by this origin.
 */
function sameAgain(returnTo: string): Answer {
  const target = JSON.stringify(returnTo).replaceAll('<', '\\u003c')
  return page(200, {
    title: 'One moment',
    html: '<p>Checking that this is your browser.</p>',
    script: `location.replace(${target})`,
  })
}

/** Receives the provider's answer. */
export async function finishSignIn(side: Side, entered: Entered): Promise<Answer> {
  const { target, fields, address } = entered
  const outcome = await side.ends.run(address, () =>
    side.signIns.finish(target.query, readCookies(fields)),
  )
  if (outcome.kind === 'unknown') return unknownSignIn(side, entered)
  const cleared = side.signIns.cleared(target.query)
  if (outcome.kind === 'signed_in') return complete(side, entered, outcome, cleared)
  if (outcome.intent.silent) return endRenewal(side, entered, outcome, cleared)
  const isDenied = outcome.kind === 'denied'
  const cause = isDenied ? outcome.error : outcome.cause
  reportFailure(side, entered.requestId, isDenied ? 'denied' : 'failed', cause)
  return failedPage(outcome.intent, cleared)
}

async function unknownSignIn(side: Side, { fields, requestId }: Entered): Promise<Answer> {
  // Another tab may have signed in, and have overwritten what this one had begun.
  const found = await side.check.find(fields)
  if (found && found.state !== 'unproven') return redirect('/')
  reportFailure(side, requestId, 'unknown_sign_in', undefined)
  return failedPage({ returnTo: '/' }, [])
}

/** Milliseconds until a renewal that has failed is tried again. */
const postponedMs = 60_000

/** A renewal without a page has failed. */
async function endRenewal(
  side: Side,
  { fields, requestId }: Entered,
  outcome: Extract<Outcome, { kind: 'denied' | 'failed' }>,
  cleared: readonly string[],
): Promise<Answer> {
  const { returnTo } = outcome.intent
  const needsPerson =
    outcome.kind === 'denied' &&
    /^(?:login|interaction|consent|account_selection)_required$/.test(outcome.error)
  const found = await side.check.find(fields)
  const session = found?.state === 'unproven' ? undefined : found?.session
  if (!needsPerson) {
    // The answer came by way of the browser: it may say nothing of other sessions.
    if (session) await postpone(side, session)
    return redirect(returnTo, cleared)
  }
  if (session) await endSession(side, session, 'provider', requestId)
  const again = `${paths.signIn}?${new URLSearchParams({ return: returnTo })}`
  return redirect(again, [...cleared, expiredCookie(sessionCookie)])
}

/** Does not ask the provider about a session for a moment. */
async function postpone({ sessions, recent, now }: Side, session: Session): Promise<void> {
  const { version } = session
  await sessions.replace({ ...session, renewAtMs: now() + postponedMs, version: version + 1 })
  recent.delete(session.id)
}

async function complete(
  side: Side,
  { fields, requestId }: Entered,
  { intent, key, signedIn }: Extract<Outcome, { kind: 'signed_in' }>,
  cleared: readonly string[],
): Promise<Answer> {
  const { config, openid, sessions, check, sealer, now } = side
  const { origin } = config
  if (config.upstreamToken && !signedIn.tokens.isBound) {
    reportFailure(side, requestId, 'token_unbound', undefined)
    return failedPage(intent, cleared)
  }
  const found = await check.find(fields)
  // Without a proof of its key it is no session, and must not be ended either.
  const before = found?.state === 'unproven' ? undefined : found
  // A bound session continues: a thief with its cookie does not have its key. Any other one is replaced.
  const continued =
    before?.state === 'bound' && before.session.subject === signedIn.claims.sub
      ? before.session
      : undefined
  const { issuer, clientId, absoluteS, idleS } = openid
  // A renewal without a page has shown nothing new of the person.
  const isRenewal = intent.silent && before?.session.subject === signedIn.claims.sub
  const endsAtMs = isRenewal ? before.session.endsAtMs : now() + absoluteS * 1000
  const made = check.create(Math.ceil((endsAtMs - now()) / 1000))
  const session = sessionOf({
    ...{ id: continued?.id ?? made.id, origin, issuer, clientId, idleS, endsAtMs },
    ...{ intent, key, signedIn, sealer, before: continued, nowMs: now() },
  })
  if (continued === undefined) {
    if (before) await endSession(side, before.session, 'replaced', requestId)
    await sessions.insert(session, openid.perPerson, now())
  } else if (!(await sessions.replace(session))) {
    // It has ended meanwhile, or another tab was faster.
    return redirect(`${paths.signIn}?${new URLSearchParams({ return: intent.returnTo })}`, cleared)
  }
  side.recent.delete(session.id)
  const facts = { requestId, sub: session.subject, session: session.id, jkt: session.key?.jkt }
  const renewed = continued !== undefined
  side.report({ type: 'signed_in', application: origin, ...facts, renewed })
  const next = addressAfter(intent.returnTo, intent.form)
  const cookies = continued ? cleared : [...cleared, made.cookie]
  const answer =
    continued || side.pageKeys === undefined
      ? redirect(next, cookies)
      : registeringPage(side, side.pageKeys, { session: session.id, next, cookies })
  if (continued || !origin.startsWith('https:')) return answer
  // Offered with the response that makes the session, and never again.
  const offer = side.dbsc.offer(session.id, providerSession(side, signedIn.claims))
  return { ...answer, fields: [...answer.fields, 'Secure-Session-Registration', offer] }
}

/** The provider's session on whose key the application's is to be, where the provider names one. */
function providerSession(
  { openid }: Side,
  { cnf, dbsc_session: session }: Readonly<Record<string, unknown>>,
) {
  const { jkt: key } = (cnf ?? {}) as { jkt?: unknown }
  if (typeof key !== 'string' || typeof session !== 'string') return undefined
  return { key, session, url: new URL(openid.issuer).origin }
}

function reportFailure(side: Side, requestId: string, code: SignInFailure, cause: unknown): void {
  side.report({ type: 'sign_in_failed', application: side.config.origin, requestId, code, cause })
}

function failedPage({ returnTo }: Pick<Intent, 'returnTo'>, cookies: readonly string[]): Answer {
  const again = `${paths.signIn}?${new URLSearchParams({ return: returnTo })}`
  const html = `<p>The sign-in was not completed.</p><p><a href="${escapeHtml(again)}">Sign in</a></p>`
  const fields = cookies.flatMap((each) => ['Set-Cookie', each])
  return page(400, { title: 'You are not signed in', html }, fields)
}
