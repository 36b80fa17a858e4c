/**
 * What an ID token that comes by the front channel says of the browser's session. Those of the token
 * endpoint are made there, by the same rules.
 */
import type Provider from 'oidc-provider'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { sessionClaimsOfIdToken } from '../bindings/session-claims.ts'
import { lifetimes } from '../config/lifetimes.ts'
import type { ExtensionOptions } from './extension.ts'
import { override } from './override.ts'

/** Of a client that wants all claims of its scopes in them; undefined for the engine's own choice. */
function scopeOfIdToken({ oidc }: KoaContextWithOIDC): string | undefined {
  const { grant, client, requestParamScopes } = oidc
  if (client?.metadata().id_token_claims !== true) return undefined
  return grant?.getOIDCScopeFiltered(requestParamScopes)
}

/** Adds the claims to the ID tokens of an engine. */
export function addSessionClaims(
  engine: Provider,
  { sessions, times, additions }: Pick<ExtensionOptions, 'sessions' | 'times' | 'additions'>,
): void {
  override(
    engine,
    'IdToken',
    (Base) =>
      class extends Base {
        override async issue(context: Parameters<typeof Base.prototype.issue>[0]) {
          if (context.use !== 'idtoken') return super.issue(context)
          const scope = scopeOfIdToken(this.ctx)
          // A member of the engine's class that its types leave out.
          if (scope !== undefined) Object.assign(this, { scope })
          const sessionUid = this.ctx?.oidc.entities.AuthorizationCode?.sessionUid
          const session = sessionUid && (await sessions.find(sessionUid))
          const { cnf, ...claims } = sessionUid
            ? sessionClaimsOfIdToken(session || undefined, false)
            : {}
          for (const [name, value] of Object.entries(claims)) this.set(name, value)
          const confirmation = { ...cnf, ...additions.confirmIdToken(this.ctx) }
          if (Object.keys(confirmation).length > 0) this.set('cnf', confirmation)
          // Its times are those of the database, whatever the clock of this node says.
          const ahead = times.aheadS()
          const issuedAt = times.engineNowS() - ahead
          this.set('iat', issuedAt)
          const { auth_time: signedInAt } = this.available
          if (typeof signedInAt === 'number') this.available.auth_time = signedInAt - ahead
          return super.issue({ ...context, expiresAt: issuedAt + lifetimes.IdToken })
        }
      },
  )
}
