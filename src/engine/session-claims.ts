/**
 * What an ID token that comes by the front channel says of the browser's session. Those of the token
 * endpoint are made there, by the same rules.
 */
import type Provider from 'oidc-provider'
import { sessionClaimsOfIdToken } from '../bindings/session-claims.ts'
import { lifetimes } from '../config/lifetimes.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { override } from './override.ts'

/** Adds the claims to the ID tokens of an engine. */
export function addSessionClaims(
  engine: Provider,
  sessions: Pick<BrowserSessionTable, 'find'>,
  times: EngineTimes,
): void {
  override(
    engine,
    'IdToken',
    (Base) =>
      class extends Base {
        override async issue(context: Parameters<typeof Base.prototype.issue>[0]) {
          const sessionUid = this.ctx?.oidc.entities.AuthorizationCode?.sessionUid
          if (context.use === 'idtoken' && sessionUid) {
            const { cnf, ...claims } = sessionClaimsOfIdToken(
              await sessions.find(sessionUid),
              false,
            )
            for (const [name, value] of Object.entries(claims)) this.set(name, value)
            if (cnf) this.set('cnf', { ...(this.extra.cnf as object | undefined), ...cnf })
          }
          if (context.use !== 'idtoken') return super.issue(context)
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
