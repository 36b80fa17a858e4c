import { createPageKeys, type PageKeys } from '@holdfast/verify/page-keys'
import { pathOfIssuer } from '../config/issuer-path.ts'
import { lifetimes } from '../config/lifetimes.ts'
import { currentClientInfo } from '../http/client-info.ts'
import { publicRoutes } from '../http/routes.ts'
import type { DbscParts } from './dbsc.ts'

/** The sessions of this server that a script of its pages has bound, for browsers without DBSC. */
export function createPageKeysOf({
  issuer,
  secrets,
  lifetime,
  sessions,
  now,
  replays,
  events,
}: Omit<DbscParts, 'refreshInitiators' | 'relyingOrigins'>): PageKeys {
  const base = pathOfIssuer(issuer)
  return createPageKeys({
    origin: new URL(issuer).origin,
    basePath: base,
    secret: secrets,
    lifetime,
    pageLifetime: lifetimes.Interaction,
    now,
    refreshPath: publicRoutes.dbsc_refresh.path,
    cookieName: base ? '__Secure-holdfast_page_key' : '__Host-holdfast_page_key',
    async find(uid) {
      const { binding } = (await sessions.find(uid)) ?? {}
      return binding?.method === 'page-key' ? binding : undefined
    },
    replays: {
      shared: true,
      consume: async (key, expiresAt) =>
        (await replays.recordReplay('dbsc', key, expiresAt)) ? 'fresh' : 'replayed',
    },
    async onEvent(event) {
      if (event.type !== 'refused' || event.session === undefined) return
      const session = await sessions.find(event.session)
      if (!session) return
      const { accountId, uid: sessionUid } = session
      const about = { accountId, sessionUid, ...currentClientInfo() }
      await events.record('proof_refused', { ...about, code: event.code })
    },
  })
}
