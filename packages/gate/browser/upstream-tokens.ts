/**
 * The access token of a session, for the application: refreshed ahead of time, by one process at a
 * time, and sent with a proof by the gate's key of this session.
 */
import { createPrivateKey, hash, type KeyObject, randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import type { GateEventListener } from '../events.ts'
import { Refusal } from '../refusal.ts'
import { traced } from '../traces.ts'
import type { Provider, SessionJwk, Tokens } from './provider.ts'
import type { Sealer } from './sealing.ts'
import type { RecentSessions, Session, SessionStore } from './sessions.ts'

/** What is sealed in a session. */
export type Secrets = Readonly<{ key: SessionJwk; tokens: Tokens }>

/** Access tokens of sessions. */
export type UpstreamTokens = Readonly<{
  /** What is sealed in a session; `undefined` where no secret of the gate opens it. */
  open(session: Session): Secrets | undefined
  /**
   * What a session has. @throws {@link Refusal} `token_unavailable` where no token is good any more
   * and no other one could be had; `session_ended` where the provider refuses to refresh it.
   */
  secretsOf(session: Session): Promise<Secrets>
  /** `Authorization` and `DPoP` for one request. */
  fieldsFor(secrets: Secrets, request: UpstreamRequest): Promise<string[]>
}>

/** A request as the upstream gets it. */
export type UpstreamRequest = Readonly<{ method: string; url: string; nonce: string | undefined }>

/** A token is refreshed when so much of its life is left, or so many milliseconds. */
const ahead = { share: 0.2, mostMs: 60_000 }

/** For so long one process refreshes, and others wait. */
const lockMs = 15_000

/** An answer that was lost is asked for again, with the same refresh token. */
const attempts = 3

const pauseMs = 100

/** Seals what a session has. */
export const sealSecrets = (sealer: Sealer, id: string, secrets: Secrets, untilMs: number) =>
  sealer.seal(`session ${id}`, secrets, untilMs)

/** Makes the access tokens of one application's sessions. */
export function createUpstreamTokens({
  origin,
  store,
  recent,
  provider,
  sealer,
  now,
  wait = pause,
  report = () => {},
}: Readonly<{
  origin: string
  store: SessionStore
  recent: RecentSessions
  provider: Pick<Provider, 'refresh'>
  sealer: Sealer
  now: () => number
  wait?: (milliseconds: number) => Promise<void>
  report?: GateEventListener
}>): UpstreamTokens {
  /** Refreshes of this process: requests of one session that come together wait for the same one. */
  const running = new Map<string, Promise<Secrets>>()
  const keys = new Map<string, KeyObject>()

  const unseal = ({ id, sealed }: Session) =>
    sealer.open(`session ${id}`, sealed, now()) as Secrets | undefined

  function open(session: Session): Secrets {
    const secrets = unseal(session)
    if (secrets === undefined) throw new Refusal('session_ended')
    return secrets
  }

  const isGood = ({ tokens }: Secrets) => now() < tokens.accessEndsAtMs
  const isDue = ({ tokens: { accessEndsAtMs, accessLifeMs } }: Secrets) =>
    now() > accessEndsAtMs - Math.min(ahead.mostMs, accessLifeMs * ahead.share)

  async function ask({ key, tokens }: Secrets): Promise<Tokens> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await provider.refresh(tokens.refreshToken ?? '', key, tokens.idToken)
      } catch (cause) {
        const { error } = cause as { error?: unknown }
        if (error === 'invalid_grant') throw new Refusal('session_ended', { cause })
        if (typeof error === 'string' || attempt === attempts) throw cause
        await wait(pauseMs)
      }
    }
  }

  /** With the lock: another process may have been here before. */
  async function renew(session: Session): Promise<Secrets> {
    const current = await store.find(session.id, now())
    if (current === undefined) throw new Refusal('session_ended')
    const secrets = open(current)
    if (!isDue(secrets)) {
      recent.set(current, now())
      return secrets
    }
    const tokens = await traced('refresh', () => ask(secrets)).catch((cause) => {
      const reason = cause instanceof Refusal ? 'invalid_grant' : 'unavailable'
      const facts = { sub: session.subject, session: session.id, jkt: session.key?.jkt }
      report({ type: 'token_refresh_failed', application: origin, ...facts, reason, cause })
      throw cause
    })
    const next = { ...secrets, tokens }
    const sealed = sealSecrets(sealer, session.id, next, session.endsAtMs)
    const renewed = { ...current, sealed, version: current.version + 1 }
    if (await store.replace(renewed)) recent.set(renewed, now())
    else recent.delete(session.id)
    return next
  }

  async function refresh(session: Session): Promise<Secrets> {
    const giveUpMs = now() + lockMs
    for (;;) {
      if (await store.lock(session.id, now(), now() + lockMs)) {
        try {
          return await renew(session)
        } finally {
          await store.unlock(session.id)
        }
      }
      const current = await store.find(session.id, now())
      if (current === undefined) throw new Refusal('session_ended')
      const secrets = open(current)
      if (isGood(secrets)) return secrets
      if (now() > giveUpMs) throw new Refusal('token_unavailable')
      await wait(pauseMs)
    }
  }

  function refreshOnce(session: Session): Promise<Secrets> {
    const known = running.get(session.id)
    if (known !== undefined) return known
    const begun = refresh(session).finally(() => running.delete(session.id))
    running.set(session.id, begun)
    return begun
  }

  return Object.freeze({
    open: unseal,

    async secretsOf(session: Session) {
      const secrets = open(session)
      if (!isDue(secrets)) return secrets
      if (secrets.tokens.refreshToken === undefined) {
        if (isGood(secrets)) return secrets
        throw new Refusal('session_ended')
      }
      const refreshed = refreshOnce(session)
      if (!isGood(secrets)) {
        return refreshed.catch((cause) => {
          if (cause instanceof Refusal) throw cause
          throw new Refusal('token_unavailable', { cause })
        })
      }
      // Ahead of time nobody waits, and the old token is good if it fails.
      refreshed.catch(() => {})
      return secrets
    },

    async fieldsFor({ key, tokens }: Secrets, { method, url, nonce }: UpstreamRequest) {
      const { x, y, d } = key
      const privateKey =
        keys.get(d) ?? createPrivateKey({ format: 'jwk', key: { ...jwkOf(x, y), d } })
      keys.delete(d)
      keys.set(d, privateKey)
      const [oldest] = keys.keys()
      if (keys.size > 1000 && oldest !== undefined) keys.delete(oldest)
      const proof = await new SignJWT({
        htm: method,
        htu: url.replace(/[?#].*/s, ''),
        ath: hash('sha256', tokens.accessToken, 'base64url'),
        jti: randomUUID(),
        iat: Math.floor(now() / 1000),
        ...(nonce !== undefined && { nonce }),
      })
        .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: jwkOf(x, y) })
        .sign(privateKey)
      return ['Authorization', `DPoP ${tokens.accessToken}`, 'DPoP', proof]
    },
  })
}

const jwkOf = (x: string, y: string) => ({ kty: 'EC', crv: 'P-256', x, y })

function pause(milliseconds: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, milliseconds)
  return promise
}
