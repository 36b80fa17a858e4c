/**
 * What tokens say of the browser's session that they come from. ID tokens name its key (`cnf.jkt`,
 * RFC 7800) and the session, so that a relying party can have a session of its own on the same key.
 */
import type Provider from 'oidc-provider'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { override } from '../provider/override.ts'
import type { BrowserSession, BrowserSessionTable } from '../storage/browser-session-table.ts'

/** `none`: its cookie is all there is to it. `ended`: the token has outlived it. */
export type SessionBindingClaim = 'dbsc' | 'token-binding' | 'none' | 'ended'

export interface SessionClaims {
  /** For the access token of a session, and undefined for one that comes from none. */
  ofAccessToken(
    ctx: KoaContextWithOIDC,
    token: object,
  ): Promise<{ session_binding: SessionBindingClaim } | undefined>
  /** Adds to the ID tokens of an engine. */
  addToIdTokens(engine: Provider): void
}

export function createSessionClaims(sessions: Pick<BrowserSessionTable, 'find'>): SessionClaims {
  // One request issues two tokens of one session.
  const found = new WeakMap<object, Promise<BrowserSession | undefined>>()
  const find = ({ oidc }: KoaContextWithOIDC, uid: string) => {
    const session = found.get(oidc) ?? sessions.find(uid)
    found.set(oidc, session)
    return session
  }

  return {
    async ofAccessToken(ctx, token) {
      const { sessionUid } = token as { sessionUid?: unknown }
      if (typeof sessionUid !== 'string') return undefined
      return { session_binding: bindingClaim(await find(ctx, sessionUid)) }
    },

    addToIdTokens(engine) {
      override(
        engine,
        'IdToken',
        (Base) =>
          class extends Base {
            override async issue(context: Parameters<typeof Base.prototype.issue>[0]) {
              const { entities } = this.ctx?.oidc ?? {}
              const { AuthorizationCode, DeviceCode, RefreshToken } = entities ?? {}
              const { sessionUid } = (AuthorizationCode ?? DeviceCode ?? RefreshToken ?? {}) as {
                sessionUid?: string
              }
              // The session is one of another device, and its key is not where this token goes.
              const isElsewhere = DeviceCode ?? RefreshToken?.gty?.startsWith('device_code')
              if (context.use === 'idtoken' && sessionUid) {
                const session = await find(this.ctx, sessionUid)
                this.set('session_binding', bindingClaim(session))
                if (session?.binding && !isElsewhere) {
                  const { jkt } = session.binding
                  this.set('cnf', { ...(this.extra.cnf as object | undefined), jkt })
                  this.set('dbsc_session', session.uid)
                }
              }
              return super.issue(context)
            }
          },
      )
    },
  }
}

function bindingClaim(session: BrowserSession | undefined): SessionBindingClaim {
  if (!session) return 'ended'
  return session.binding?.method ?? (session.tbh ? 'token-binding' : 'none')
}
