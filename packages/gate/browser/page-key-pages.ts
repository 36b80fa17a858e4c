/**
 * Keys of pages, for browsers without DBSC: one page after the sign-in whose script makes a key, and
 * one in between whose script proves it. A browser that registers a key of its own replaces it.
 */
import { VerifyError } from '@holdfast/verify'
import type { PageKeys } from '@holdfast/verify/page-keys'
import type { Entered } from '../edge.ts'
import { Refusal } from '../refusal.ts'
import { type Answer, dbscAnswer, escapeHtml, json, page } from './answers.ts'
import { pageKeyScript } from './page-key-script.ts'
import { gatePath, isOwn, onlyValue } from './requests.ts'
import type { Session } from './sessions.ts'
import { paths, type Side } from './side.ts'

/** The field of a proof, as browsers with DBSC send it. */
const proofField = 'secure-session-response'

/** The script of these pages, which pages of the application may include. */
export function sendPageKeyScript(): Answer {
  const fields = ['Content-Type', 'text/javascript; charset=utf-8', 'Cache-Control', 'max-age=600']
  return {
    status: 200,
    fields: [...fields, 'X-Content-Type-Options', 'nosniff'],
    body: pageKeyScript,
  }
}

/** The response that makes a session, with a challenge for the key of this page. It goes to `next`. */
export function registeringPage(
  side: Side,
  pageKeys: PageKeys,
  {
    session,
    next,
    cookies,
  }: Readonly<{ session: string; next: string; cookies: readonly string[] }>,
): Answer {
  const data = { register: pageKeys.pageChallenge(session), next }
  const fields = cookies.flatMap((each) => ['Set-Cookie', each])
  return keyPage(side, 'You are signed in', data, fields)
}

/** The page in between: its script proves the key of a session, and goes to `next` in any case. */
export function provingPage(
  side: Side,
  pageKeys: PageKeys,
  { id, key }: Pick<Session, 'id' | 'key'>,
  next: string,
): Answer {
  const { challenge } = pageKeys.stateOf(id, undefined)
  return keyPage(side, 'One moment', { key: key?.jkt ?? '', challenge, next })
}

function keyPage(
  { config: { origin } }: Side,
  title: string,
  data: Readonly<Record<string, string>> & Readonly<{ next: string }>,
  fields: readonly string[] = [],
): Answer {
  const { next } = data
  const html = `<p>Checking that this is your browser.</p><p><a href="${escapeHtml(next)}">Continue</a></p>`
  const module = {
    ...{ url: origin + paths.pageKeyScript, connect: `${origin}${gatePath}/page-key/`, data },
  }
  return page(200, { title, html, module, next }, fields)
}

/**
 * Keeps the key of a page: once, for a session without a key, with the challenge of its own sign-in.
 *
 * @throws {@link Refusal} `cross_origin` for what no page of this origin has sent.
 */
export async function registerPageKey(side: Side, { fields, requestId }: Entered): Promise<Answer> {
  const { pageKeys, config, sessions, recent, report, now } = side
  const session = ownSession(side, fields)
  if (pageKeys === undefined || session === undefined) return noPageKey()
  const facts = { application: config.origin, requestId, session, method: 'page-key' } as const
  try {
    const proof = onlyValue(fields, proofField) ?? ''
    const { jkt, alg, jwk } = pageKeys.verifyRegistration(proof, session)
    const key = { method: 'page-key', jkt, alg, jwk, atMs: now() } as const
    const isBound = await sessions.bind(session, key)
    recent.delete(session)
    // Nor is it told twice: a proof that was read on its way must not bring a second cookie.
    if (!isBound) throw new VerifyError('dbsc_bound_already', 'the session has a key or has ended')
    report({ type: 'session_bound', jkt, ...facts })
    const cookie = ['Set-Cookie', pageKeys.boundCookie(session)]
    return json(200, { key: jkt, seconds: pageKeys.lifetime }, cookie)
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error
    const { code, status, message } = error
    report({ type: 'proof_refused', code, ...facts })
    return json(status, { error: code, error_description: message })
  }
}

/**
 * Answers a proof of the key of a page by the next cookie, and one that is missing by a challenge.
 *
 * @throws {@link Refusal} `cross_origin` for what no page of this origin has sent.
 */
export async function provePageKey(
  side: Side,
  { method, target, fields }: Entered,
): Promise<Answer> {
  const session = ownSession(side, fields)
  const answer = await side.pageKeys?.handle({
    ...{ method, path: target.path, session: () => session },
    header: (name) => onlyValue(fields, name.toLowerCase()),
  })
  return answer === undefined ? noPageKey() : dbscAnswer(answer)
}

function ownSession({ config, check }: Side, fields: Entered['fields']): string | undefined {
  if (isOwn(fields, config.origin) !== true) throw new Refusal('cross_origin')
  return check.idOf(fields)
}

const noPageKey = () =>
  json(404, { error: 'no_page_key', error_description: 'This session has no key of a page' })
