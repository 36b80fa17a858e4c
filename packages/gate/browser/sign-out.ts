/** How sessions end: here, at the provider, and because the provider says so. */
import type { Entered } from '../edge.ts'
import { Refusal } from '../refusal.ts'
import { type Answer, escapeHtml, json, page, redirect } from './answers.ts'
import { expiredCookie, sessionCookie } from './cookies.ts'
import type { ReadText } from './kept-forms.ts'
import { isOwn } from './requests.ts'
import { paths, type Side } from './side.ts'
import { endSession } from './sign-in-pages.ts'

/** A logout token has less than half of this. */
const mostLogoutBytes = 16_384

/** A page that asks; signing out itself takes a form of this origin. */
export function signOutPage(): Answer {
  const html = `<form method="post" action="${paths.signOut}"><p>Sign out of this application?</p>
<p><button>Sign out here</button>
<button name="everywhere" value="yes">Sign out everywhere</button></p></form>`
  return page(200, { title: 'Sign out', html })
}

/** The page after a sign-out. */
export function signedOutPage(): Answer {
  return page(200, { title: 'You are signed out', html: '<p><a href="/">Sign in again</a></p>' })
}

/**
 * Ends the session of a browser; with `everywhere=yes`, the browser then goes to the provider.
 *
 * @throws {@link Refusal} `cross_origin` for a form of another site.
 */
export async function signOut(
  side: Side,
  { fields, requestId }: Entered,
  readText: ReadText,
): Promise<Answer> {
  if (isOwn(fields, side.config.origin) !== true) throw new Refusal('cross_origin')
  const isEverywhere = new URLSearchParams(await readText(1024)).get('everywhere') === 'yes'
  const found = await side.check.find(fields)
  const cookies = [
    ...[expiredCookie(sessionCookie), side.dbsc.expiredCookie],
    ...(side.pageKeys ? [side.pageKeys.expiredCookie] : []),
  ]
  if (found === undefined || found.state === 'unproven') return redirect(paths.signedOut, cookies)
  await endSession(side, found.session, 'signed_out', requestId)
  const secrets = side.tokens.open(found.session)
  const at = isEverywhere && secrets ? await providerPage(side, secrets.tokens.idToken) : undefined
  if (at === undefined) return redirect(paths.signedOut, cookies)
  // No redirect: the policy of the page with the form may forbid one to another origin.
  const html = `<p><a href="${escapeHtml(at)}">Continue</a></p>`
  const more = cookies.flatMap((each) => ['Set-Cookie', each])
  return page(200, { title: 'Signing out', html }, [...more, 'Refresh', `0; url=${at}`])
}

async function providerPage(side: Side, idToken: string): Promise<string | undefined> {
  try {
    const returnTo = side.config.origin + paths.signedOut
    return (await side.provider.signOutUrl(idToken, returnTo))?.href
  } catch {
    // The session here has ended, whether the provider can be reached or not.
    return undefined
  }
}

/**
 * Receives a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.5) and ends the sessions
 * that it names. Each token counts once.
 */
export async function backChannelLogout(
  side: Side,
  { requestId }: Entered,
  readText: ReadText,
): Promise<Answer> {
  const { openid, config, sessions, recent, streams, replay, provider, report, now } = side
  const refuse = (cause: unknown) => {
    report({ type: 'logout_refused', application: config.origin, requestId, cause })
    const description = 'The logout token is not valid'
    return json(400, { error: 'invalid_request', error_description: description })
  }
  const tokens = new URLSearchParams(await readText(mostLogoutBytes)).getAll('logout_token')
  const [token = ''] = tokens
  if (tokens.length !== 1) return refuse('there must be one logout_token')
  let named: Awaited<ReturnType<typeof provider.verifyLogoutToken>>
  try {
    named = await provider.verifyLogoutToken(token)
  } catch (cause) {
    return refuse(cause)
  }
  const { sid, subject, jti, expS } = named
  const key = `logout.${JSON.stringify([config.origin, openid.issuer, jti])}`
  const outcome = await replay.consume(key, expS + 60, Math.floor(now() / 1000))
  if (outcome !== 'fresh') return refuse(`jti: ${outcome}`)
  const ended = { application: config.origin, issuer: openid.issuer, sid, subject }
  const ids = await sessions.endAll(ended)
  recent.deleteAll(ended)
  streams.endAll(ended)
  for (const session of ids) {
    const facts = { requestId, sub: subject, session }
    report({ type: 'session_ended', application: config.origin, ...facts, reason: 'logout' })
  }
  return json(200, {})
}
