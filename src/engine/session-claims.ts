/**
 * What an ID token that comes by the front channel says of the browser's session. Those of the token
 * endpoint are made there, by the same rules.
 */
import type Provider from 'oidc-provider'
import { sessionClaimsOfIdToken } from '../bindings/session-claims.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import { override } from './override.ts'

/** Adds the claims to the ID tokens of an engine. */
export function addSessionClaims(
  engine: Provider,
  sessions: Pick<BrowserSessionTable, 'find'>,
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
          return super.issue(context)
        }
      },
  )
}
