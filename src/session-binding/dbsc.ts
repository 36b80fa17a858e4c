import { createDbscSessions, type DbscSessions } from '@holdfast/verify/dbsc'
import { securityClientId } from '../clients/security-client.ts'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { currentClientInfo } from '../http/client-info.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { BrowserSessionTable } from '../storage/browser-session-table.ts'
import type { ReplayTable } from '../storage/replay-table.ts'

/** Machines come here, and files that are the same for everyone: no request waits for a proof. */
const excludedPaths = ['/token', '/par', '/introspect', '/revoke', '/userinfo', '/jwks', '/assets']

export interface DbscParts {
  readonly issuer: string
  /** The one that makes bound cookies comes first. */
  readonly secrets: () => readonly Uint8Array[]
  /** Seconds. */
  readonly lifetime: number
  readonly sessions: BrowserSessionTable
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly replays: ReplayTable
  readonly events: SecurityEvents
  /** Hosts of applications that may have the browser refresh. */
  readonly refreshInitiators: readonly string[]
  /** Origins whose sessions may be on the keys of ours. */
  readonly relyingOrigins: () => Promise<readonly string[]>
}

/** The sessions of this server, bound by the browser (Device Bound Session Credentials). */
export function createDbsc({
  issuer,
  secrets,
  lifetime,
  refreshInitiators,
  sessions,
  now,
  replays,
  events,
  relyingOrigins,
}: DbscParts): DbscSessions {
  const base = pathOfIssuer(issuer)
  return createDbscSessions({
    origin: new URL(issuer).origin,
    basePath: base,
    secret: secrets,
    lifetime,
    now,
    excludedPaths,
    allowedRefreshInitiators: refreshInitiators,
    // A cookie of __Host- goes to the whole origin: to what else lives there, and from another
    // Holdfast there as well.
    cookieName: base ? '__Secure-holdfast_bound' : '__Host-holdfast_bound',
    bindings: {
      insert: (uid, registration) => sessions.bind(uid, registration),
      // A session with a page key is one that browsers know nothing of.
      async find(uid) {
        const { binding } = (await sessions.find(uid)) ?? {}
        return binding?.method === 'dbsc' ? binding : undefined
      },
    },
    replays: {
      shared: true,
      consume: async (key, expiresAt) =>
        (await replays.recordReplay('dbsc', key, expiresAt)) ? 'fresh' : 'replayed',
    },
    wellKnown: async () => ({ relying_origins: await relyingOrigins() }),
    async onEvent(event) {
      if (event.type === 'refreshed' || event.session === undefined) return
      const session = await sessions.find(event.session)
      if (!session) return
      const { accountId, uid: sessionUid } = session
      const about = { accountId, sessionUid, ...currentClientInfo() }
      if (event.type === 'refused') {
        await events.record('proof_refused', { ...about, code: event.code })
        return
      }
      // Their tokens say that the session is not bound, and name no key, until their next refresh.
      const clients = Object.keys(session.authorizations).filter((id) => id !== securityClientId)
      await (clients.length > 0
        ? events.record('session_bound_late', { ...about, clients })
        : events.record('session_bound', about))
    },
  })
}
