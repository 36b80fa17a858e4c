import Router from '@koa/router'
import { readEmail } from '../accounts/email.ts'
import type { SelfService } from '../config/self-service-config.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import type { AccountStore } from '../storage/account-store.ts'
import type { AccountPages, PasskeyPages } from './account-pages.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import { type OwnDataTables, ownDataOf } from './own-data.ts'
import type { Readers } from './reader.ts'

export interface DataRouterOptions {
  readonly pages: AccountPages
  readonly readers: Readers
  readonly changes: ConfirmedChanges
  readonly store: Pick<AccountStore, 'remove'>
  readonly tables: OwnDataTables
  readonly selfService: readonly SelfService[]
  /** Undefined where browsers make none for this server. */
  readonly passkeys: PasskeyPages | undefined
  readonly views: Pick<Views, 'accountData' | 'accountDeleted'>
  readonly events: Pick<Events, 'accountExported' | 'accountDeleted'>
  readonly securityEvents: Pick<SecurityEvents, 'record'>
}

/**
 * What is kept about a person, to take away or to delete, where the operator allows it. Both need
 * the person themselves, and deleting the address of the account as well: a session alone does
 * neither.
 */
export function createDataRouter(options: DataRouterOptions): Router {
  const { pages, readers, changes, store, tables, selfService, views } = options
  const { events, securityEvents, passkeys } = options
  const router = new Router({ sensitive: true, strict: true })
  const allows = (service: SelfService) => selfService.includes(service)

  function requireAllowed(service: SelfService) {
    if (allows(service)) return
    throw new PageError('invalid_form', 'Expected a server on which people do this themselves')
  }

  router.get(publicRoutes.security_data.path, (ctx) =>
    pages.show(ctx, 'security_data', async (_, frame) =>
      views.accountData({ ...frame, exports: allows('export'), deletes: allows('delete') }),
    ),
  )

  router.get(publicRoutes.security_export.path, async (ctx) => {
    requireAllowed('export')
    await changes.show(ctx, await readers.require(ctx), exporting)
  })

  router.post(publicRoutes.security_export_submit.path, async (ctx) => {
    requireAllowed('export')
    const submitted = await readers.submitted(ctx)
    const { account, about } = submitted.reader
    if (!(await changes.isConfirmed(ctx, submitted, exporting))) return
    const data = await ownDataOf(account, tables)
    events.accountExported({ ...requestFacts(ctx), account: account.id })
    await securityEvents.record('account_exported', about)
    ctx.attachment('account.json')
    ctx.set('cache-control', 'no-store')
    ctx.type = 'json'
    ctx.body = JSON.stringify(data, null, 2)
  })

  router.get(publicRoutes.security_delete.path, async (ctx) => {
    requireAllowed('delete')
    await changes.show(ctx, await readers.require(ctx), deleting)
  })

  router.post(publicRoutes.security_delete_submit.path, async (ctx) => {
    requireAllowed('delete')
    const submitted = await readers.submitted(ctx)
    const { account } = submitted.reader
    if (!(await changes.isConfirmed(ctx, submitted, deleting))) return
    if (readEmail(submitted.form.get('email') ?? '') !== account.email) {
      ctx.status = 400
      await changes.show(ctx, submitted.reader, deleting, 'data.wrong_email')
      return
    }
    const removed = await store.remove(account.id)
    if (removed) {
      const { ended, revoked } = removed
      events.accountDeleted({ ...requestFacts(ctx), account: account.id }, { ended, revoked })
    }
    ctx.type = 'html'
    if (passkeys) allowScript(ctx, passkeys.scriptUrl)
    ctx.body = views.accountDeleted({ signals: passkeys?.endSignals(account) })
  })

  return router
}

const back = publicRoutes.security_data.path

const exporting: Change = {
  name: 'export account',
  action: publicRoutes.security_export_submit.path,
  heading: { key: 'data.export' },
  lead: { key: 'data.export_lead' },
  back,
}

const deleting: Change = {
  name: 'delete account',
  action: publicRoutes.security_delete_submit.path,
  heading: { key: 'data.delete' },
  lead: { key: 'data.delete_lead' },
  back,
  field: { name: 'email', label: 'data.type_email', value: '', maxLength: 320 },
}
