/** What becomes of a sign-in: a session, new or continued. */
import type { SignedIn, SignInRequest } from './provider.ts'
import type { Sealer } from './sealing.ts'
import type { Session } from './sessions.ts'
import type { Intent } from './sign-in.ts'
import { sealSecrets } from './upstream-tokens.ts'

/** Claims that say something of the token or of its key, and nothing of the person. */
const ofTheToken = new Set([
  ...['aud', 'azp', 'exp', 'iat', 'nbf', 'jti', 'nonce', 'cnf', 'at_hash', 'c_hash', 's_hash'],
  ...['dbsc_session'],
])

/** An ID token is good for so long at least: a provider whose tokens end at once is not asked at once. */
const shortestMs = 60_000

/** Makes a session of a sign-in; `before` is the session that it continues, `endsAtMs` its absolute end. */
export function sessionOf({
  id,
  origin,
  issuer,
  clientId,
  idleS,
  endsAtMs,
  intent,
  key,
  signedIn,
  sealer,
  before,
  nowMs,
}: Readonly<{
  id: string
  origin: string
  issuer: string
  clientId: string
  idleS: number
  endsAtMs: number
  intent: Intent
  key: SignInRequest['key']
  signedIn: SignedIn
  sealer: Sealer
  before: Session | undefined
  nowMs: number
}>): Session {
  const { claims, tokens } = signedIn
  const told = Object.entries(claims).filter(([name]) => !ofTheToken.has(name))
  const startedAtMs = before?.startedAtMs ?? nowMs
  return {
    id,
    application: origin,
    issuer,
    subject: claims.sub,
    sid: typeof claims.sid === 'string' ? claims.sid : undefined,
    claims: { ...Object.fromEntries(told), client_id: clientId },
    startedAtMs,
    endsAtMs,
    idleEndsAtMs: nowMs + idleS * 1000,
    renewAtMs: Math.max(claims.exp * 1000, nowMs + shortestMs),
    askedAcr: intent.acrValues,
    sealed: sealSecrets(sealer, id, { key, tokens }, endsAtMs),
    version: (before?.version ?? 0) + 1,
    key: before?.key,
  }
}
