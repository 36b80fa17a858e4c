import { randomBytes } from 'node:crypto'
import Koa from 'koa'
import * as oidc from 'openid-client'
import type { DbscRegistration } from '../../packages/verify/dbsc.ts'
import { koaDbsc } from '../../packages/verify/dbsc-koa.ts'
import {
  createDbscSessions,
  type DbscProviderSession,
} from '../../packages/verify/dbsc-sessions.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'

/** A session of the application's own. */
export interface AppSession {
  readonly subject: string
  /** The provider's session, whose key this one is to be on; undefined: it had none in time. */
  readonly provider: DbscProviderSession | undefined
  registration?: DbscRegistration
}

export interface BoundRelyingPartyOptions {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  readonly origin: string
  /** Seconds. */
  readonly lifetime?: number
}

/**
 * A relying party whose own session is on the key of the session at the identity provider. At `/`
 * it says who is there, and sends whoever is not to sign in.
 */
export async function createBoundRelyingParty({
  issuer,
  clientId,
  clientSecret,
  origin,
  lifetime = 600,
}: BoundRelyingPartyOptions): Promise<{ app: Koa; sessions: ReadonlyMap<string, AppSession> }> {
  const authentication = oidc.ClientSecretBasic(clientSecret)
  const client = await oidc.discovery(new URL(issuer), clientId, undefined, authentication)
  const DPoP = oidc.getDPoPHandle(client, await oidc.randomDPoPKeyPair('ES256'))
  const logins = new Map<string, { codeVerifier: string; nonce: string }>()
  const sessions = new Map<string, AppSession>()

  const dbsc = createDbscSessions({
    origin,
    secret: randomBytes(32),
    lifetime,
    replays: createMemoryReplayStore({ capacity: 10_000 }),
    wellKnown: () => ({ provider_origin: issuer }),
    bindings: {
      find: async (id) => sessions.get(id)?.registration,
      async insert(id, registration) {
        const session = sessions.get(id)
        if (!session || session.registration) return false
        session.registration = registration
        return true
      },
    },
  })
  const sessionId = (ctx: Koa.Context) => ctx.cookies.get('__Host-app')

  async function begin(ctx: Koa.Context): Promise<void> {
    const [codeVerifier, state, nonce] = [
      oidc.randomPKCECodeVerifier(),
      oidc.randomState(),
      oidc.randomNonce(),
    ]
    logins.set(state, { codeVerifier, nonce })
    const parameters = {
      redirect_uri: `${origin}/callback`,
      scope: 'openid',
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      state,
      nonce,
      ...(ctx.query.prompt === 'none' && { prompt: 'none' }),
    }
    ctx.redirect(oidc.buildAuthorizationUrl(client, parameters).href)
  }

  async function finish(ctx: Koa.Context): Promise<void> {
    const state = String(ctx.query.state)
    const login = logins.get(state)
    if (!login || !logins.delete(state)) return ctx.throw(400)
    const tokens = await oidc.authorizationCodeGrant(
      client,
      new URL(ctx.originalUrl, origin),
      { pkceCodeVerifier: login.codeVerifier, expectedNonce: login.nonce, expectedState: state },
      {},
      { DPoP },
    )
    const { sub, cnf, dbsc_session } = tokens.claims() as oidc.IDToken & {
      cnf?: { jkt?: string }
      dbsc_session?: string
    }
    const provider =
      cnf?.jkt && dbsc_session ? { key: cnf.jkt, session: dbsc_session, url: issuer } : undefined
    const id = randomBytes(16).toString('base64url')
    sessions.set(id, { subject: sub, provider })
    ctx.cookies.set('__Host-app', id, { secure: true, httpOnly: true, sameSite: 'lax' })
    // A key of its own would be as good a guard, and no proof of being the provider's session.
    if (provider) ctx.set('Secure-Session-Registration', dbsc.offer(id, provider))
    ctx.redirect('/')
  }

  const app = new Koa()
  app.use(koaDbsc(dbsc, sessionId))
  app.use(async (ctx) => {
    ctx.set('Cache-Control', 'no-store')
    if (ctx.path === '/login') return begin(ctx)
    if (ctx.path === '/callback') return finish(ctx)
    if (ctx.path !== '/') return ctx.throw(404)
    const id = sessionId(ctx) ?? ''
    const session = sessions.get(id)
    const isProven = dbsc.provenAt(id, ctx.get('cookie')) !== undefined
    if (!session || (session.registration && !isProven)) {
      ctx.status = 401
      ctx.body = '<!doctype html><title>The app</title><a href="/login">Sign in</a>'
      return
    }
    const how = session.registration ? 'bound' : 'not bound'
    ctx.body = `<!doctype html><title>The app</title><p>${session.subject}, ${how}`
  })
  return { app, sessions }
}
