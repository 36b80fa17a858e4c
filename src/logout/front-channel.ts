/**
 * Front-channel logout (OpenID Connect Front-Channel Logout 1.0): the page after a sign-out frames an
 * address of each application that the person leaves, so that it can end its session in this browser.
 */
import type { Context, Middleware } from 'koa'
import type Provider from 'oidc-provider'
import type { ClientMetadata, KoaContextWithOIDC } from 'oidc-provider'
import { browserSessionOf } from '../engine/session-model.ts'
import type { SignedOutPage } from '../pages/views.ts'

/** Of more applications the back channel has to tell. */
const mostFrames = 20

export interface FrontChannelOptions {
  readonly issuer: string
  readonly engine: Pick<Provider, 'Client'>
  readonly page: (page: SignedOutPage) => string
}

/** Puts a page in the place of the redirect that follows a sign-out, where there is anyone to tell. */
export function frontChannelLogout({ issuer, engine, page }: FrontChannelOptions): Middleware {
  const ownPage = new URL(issuer).origin

  return async (ctx, next) => {
    await next()
    const { oidc } = ctx as Context & Partial<KoaContextWithOIDC>
    const location = ctx.response.get('location')
    if (!oidc?.session || ctx.status !== 303 || !location) return
    const left = leftClients(oidc.session).slice(0, mostFrames)
    const found = await Promise.all(left.map(([id, sid]) => frameOf(engine, { id, sid, issuer })))
    const frames = found.flat()
    if (frames.length === 0) return
    const isOwn = new URL(location, issuer).origin === ownPage
    const { client } = oidc
    ctx.status = 200
    ctx.remove('location')
    ctx.type = 'html'
    allowFrames(ctx, frames)
    ctx.body = page({
      stillSignedIn: !isDestroyed(oidc.session),
      ...(client && { clientName: client.clientName ?? client.clientId }),
      frames,
      ...(!isOwn && { next: location }),
    })
  }
}

/** A member of the engine's class that its types leave out. */
const isDestroyed = (session: object) => (session as { destroyed?: boolean }).destroyed === true

/** The clients that are no longer signed in to, with the `sid` that each knows the session by. */
function leftClients(session: {
  readonly authorizations?: object | undefined
}): [clientId: string, sid: string | undefined][] {
  const before = browserSessionOf(session)?.authorizations ?? {}
  const kept = isDestroyed(session) ? {} : (session.authorizations ?? {})
  return Object.entries(before)
    .filter(([id]) => !Object.hasOwn(kept, id))
    .map(([id, authorization]) => [id, (authorization as { sid?: string }).sid])
}

async function frameOf(
  engine: Pick<Provider, 'Client'>,
  { id, sid, issuer }: { id: string; sid: string | undefined; issuer: string },
): Promise<string[]> {
  // One that contradicts its profile is not told: it is refused everywhere.
  const client = await engine.Client.find(id).catch(() => undefined)
  const { frontchannel_logout_uri: uri } = (client ?? {}) as Pick<
    ClientMetadata,
    'frontchannel_logout_uri'
  >
  if (uri === undefined) return []
  const url = new URL(uri)
  url.searchParams.set('iss', issuer)
  if (sid !== undefined) url.searchParams.set('sid', sid)
  return [url.href]
}

function allowFrames(ctx: Pick<Context, 'set' | 'response'>, frames: readonly string[]): void {
  const origins = new Set(frames.map((frame) => new URL(frame).origin))
  const policy = ctx.response.get('content-security-policy')
  ctx.set('content-security-policy', `${policy}; frame-src ${[...origins].join(' ')}`)
}
