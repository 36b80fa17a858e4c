import Router from '@koa/router'
import type { ClientMetadata } from 'oidc-provider'
import { endedChainMemoryS } from '../config/lifetimes.ts'
import { publicRoutes } from '../http/routes.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { type Consent, describeConsent, type FindDetailsType } from '../pages/consent-sections.ts'
import type { FindResourceLabels } from '../pages/scope-labels.ts'
import { type ApplicationLine, applicationLine } from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { ArtifactTable, Installation, StoredGrant } from '../storage/artifact-table.ts'
import { isDocumentId } from '../storage/client-document-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { AccountPages } from './account-pages.ts'
import type { Readers } from './reader.ts'

export interface ApplicationsRouterOptions {
  readonly pages: AccountPages
  readonly readers: Readers
  readonly views: Pick<Views, 'applications'>
  readonly artifacts: Pick<
    ArtifactTable,
    'listGrantsOf' | 'listInstallationsOf' | 'removeGrantsOf' | 'endInstallation'
  >
  readonly clients: Pick<ClientTable, 'find'>
  readonly events: Pick<SecurityEvents, 'record'>
  readonly resourceLabels: FindResourceLabels
  readonly detailsType: FindDetailsType
}

/** The applications that act for a person, what each may do, and the end of it. */
export function createApplicationsRouter(options: ApplicationsRouterOptions): Router {
  const { pages, readers, views, artifacts, clients, events } = options
  const { resourceLabels, detailsType } = options
  const router = new Router({ sensitive: true, strict: true })

  /** One whose document is gone is still there to be ended. */
  async function findClient(clientId: string): Promise<ClientMetadata | undefined> {
    if (!isDocumentId(clientId)) return clients.find(clientId)
    const found = await clients.find(clientId).catch(() => undefined)
    return found ?? { client_id: clientId }
  }

  async function lineOf(
    grant: StoredGrant,
    installations: readonly Installation[],
  ): Promise<ApplicationLine[]> {
    const client = await findClient(grant.clientId)
    if (!client) return []
    const allowed = await describeConsent(grantedOf(grant), resourceLabels, detailsType)
    const own = installations.filter(({ clientId }) => clientId === grant.clientId)
    return [applicationLine(grant, client, { allowed, installations: own })]
  }

  router.get(publicRoutes.security_applications.path, (ctx) =>
    pages.show(ctx, 'security_applications', async ({ account }, frame) => {
      const [grants, installations] = await Promise.all([
        artifacts.listGrantsOf(account.id),
        artifacts.listInstallationsOf(account.id),
      ])
      const lines = await Promise.all(grants.map((grant) => lineOf(grant, installations)))
      return views.applications({ ...frame, applications: lines.flat() })
    }),
  )

  router.post(publicRoutes.security_end_application.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    await artifacts.removeGrantsOf(account.id, form.get('client_id') ?? '')
    await events.record('access_ended', about)
    pages.redirect(ctx, 'security_applications')
  })

  router.post(publicRoutes.security_end_installation.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const { about, account } = reader
    const isEnded = await artifacts.endInstallation({
      accountId: account.id,
      clientId: form.get('client_id') ?? '',
      jkt: form.get('jkt') ?? '',
      rememberSeconds: endedChainMemoryS,
    })
    if (isEnded) await events.record('access_ended', about)
    pages.redirect(ctx, 'security_applications')
  })

  return router
}

/** What all grants of a client hold together. Authorization details are asked for again each time. */
function grantedOf({ granted }: StoredGrant): Consent {
  const split = (scope: string | undefined) => (scope ?? '').split(' ').filter(Boolean)
  const scopesOf = new Map<string, Set<string>>()
  for (const { resources } of granted) {
    for (const [indicator, scope] of Object.entries(resources ?? {})) {
      scopesOf.set(indicator, new Set([...(scopesOf.get(indicator) ?? []), ...split(scope)]))
    }
  }
  return {
    scopes: [...new Set(granted.flatMap(({ openid }) => split(openid?.scope)))],
    claims: [...new Set(granted.flatMap(({ openid }) => openid?.claims ?? []))],
    resources: [...scopesOf].map(([indicator, scopes]) => ({ indicator, scopes: [...scopes] })),
    details: [],
  }
}
