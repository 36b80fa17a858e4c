import https from 'node:https'
import type { TokenBindingFact } from '@holdfast/verify'
import { createIdTokenVerifier, VerifyError } from '@holdfast/verify'
import { TokenBindingError, type TokenBindingProof } from '@holdfast/verify/token-binding'
import {
  beginTokenBoundLogin,
  finishTokenBoundLogin,
  includeReferredTokenBindingId,
} from '@holdfast/verify/token-binding-login'
import Koa, { type Context, type Middleware } from 'koa'
import { createTokenBindingReader } from '../../src/http/token-binding-reader.ts'
import { agentFetch } from '../../test/support/agent-fetch.ts'
import { createApi } from './api.ts'
import type { RelyingParty, Tokens } from './relying-party.ts'

const readTokenBinding = createTokenBindingReader('tls', () => false)

/** Reads what each request proves, and refuses those that prove it wrongly (RFC 8473 section 2). */
const proveTokenBinding: Middleware = async (ctx, next) => {
  try {
    ctx.state.tokenBinding = readTokenBinding(ctx.req)
  } catch (error) {
    if (!(error instanceof TokenBindingError)) throw error
    ctx.status = 400
    ctx.body = { error: 'invalid_request' }
    return
  }
  await next()
}

function provenBy(ctx: Pick<Context, 'state'>): TokenBindingProof | undefined {
  return ctx.state.tokenBinding
}

/** Connections of servers that show nothing of themselves. */
export const plainFetch = agentFetch(new https.Agent())

/**
 * The API, which takes tokens from wherever RFC 6750 allows them. It sends those who need a token to
 * the token endpoint, and has the key that they have here shown there (RFC 8473 section 5.3).
 */
export function createTokenBindingApi({
  issuer,
  audience,
}: {
  issuer: string
  audience: string
}): Koa {
  return createApi({
    issuer,
    audience,
    fetch: plainFetch,
    tokenLocations: ['header', 'body', 'query'],
    before: async (ctx, next) => {
      if (ctx.path === '/token') {
        ctx.set(includeReferredTokenBindingId)
        ctx.status = 303
        ctx.redirect(`${issuer}/token`)
        return
      }
      await proveTokenBinding(ctx, next)
    },
    facts: (ctx) => {
      const proof = provenBy(ctx as never)
      return proof ? { tokenBinding: factOf(proof) } : {}
    },
  })
}

function factOf({ provided }: TokenBindingProof): TokenBindingFact {
  return { providedId: Buffer.from(provided.id, 'base64url') }
}

export interface TokenBindingRelyingParty {
  readonly origin: string
  readonly issuer: string
  readonly clientId: string
  /** It can be made only when its redirect URI is known, and so its origin. */
  readonly client: () => RelyingParty
  readonly onTokens: (tokens: Tokens) => void
}

/**
 * A relying party at a name of its own. It remembers the key of the browser that begins a login, and
 * takes code and ID token from no other.
 */
export function createTokenBindingRelyingParty(party: TokenBindingRelyingParty): Koa {
  const { issuer, clientId, client } = party
  const app = new Koa()
  const logins = new Map<string, Awaited<ReturnType<RelyingParty['begin']>>>()
  const { verifyIdToken } = createIdTokenVerifier({ issuer, clientId, fetch: plainFetch })

  async function begin(ctx: Context): Promise<void> {
    const { browserId, headers, parameters } = beginTokenBoundLogin(provenBy(ctx))
    const login = await client().begin({ codeVerifier: browserId, parameters })
    logins.set(login.state, login)
    ctx.set(headers)
    ctx.status = 303
    ctx.redirect(login.authorizeUrl.href)
  }

  async function finish(ctx: Context): Promise<void> {
    const login = logins.get(String(ctx.query.state))
    if (!login) ctx.throw(400)
    const { tokenBinding } = finishTokenBoundLogin(login.codeVerifier, provenBy(ctx))
    const tokens = await client().finish(new URL(ctx.url, party.origin), login)
    const { nonce } = login
    const { claims } = await verifyIdToken(tokens.idToken ?? '', { nonce, tokenBinding })
    party.onTokens(tokens)
    ctx.body = { sub: claims.sub, bound: claims.cnf }
  }

  app.use(proveTokenBinding)
  app.use(async (ctx) => {
    try {
      await (ctx.path === '/login' ? begin : finish)(ctx)
    } catch (error) {
      if (!(error instanceof VerifyError)) throw error
      ctx.status = 401
      ctx.body = { error: error.code }
    }
  })
  return app
}
