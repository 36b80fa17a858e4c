import Router, { type RouterContext } from '@koa/router'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { browserName } from '../pages/browser-labels.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import { maxPasskeyNameCharacters, type Passkeys, readPasskeyName } from '../passkeys/passkeys.ts'
import type { Passkey, PasskeyTable } from '../storage/passkey-table.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import type { Reader, Readers } from './reader.ts'

export interface PasskeyRouterOptions {
  readonly passkeys: Passkeys
  readonly table: PasskeyTable
  readonly readers: Readers
  readonly changes: ConfirmedChanges
  readonly rules: Pick<SignInRules, 'leastPasskeysOf'>
  readonly forms: FormTokens
  readonly views: Pick<Views, 'newPasskey'>
  readonly events: Pick<Events, 'passkeyChanged' | 'passkeyNotAllowed'>
  readonly securityEvents: Pick<SecurityEvents, 'report'>
  /** Of other servers that use these passkeys. */
  readonly relatedOrigins: readonly string[]
  readonly scriptUrl: string
  /** Where My security is. */
  readonly page: string
}

/** Adding, renaming and removing passkeys at My security. */
export function createPasskeyRouter(options: PasskeyRouterOptions): Router {
  const { passkeys, table, readers, changes, rules, forms, views } = options
  const { events, securityEvents, relatedOrigins, scriptUrl, page } = options
  const router = new Router({ sensitive: true, strict: true })

  /** The passkey of the address, if it is the reader's. */
  async function named(ctx: RouterContext, { account }: Reader): Promise<Passkey> {
    const own = await table.listOf(account.id)
    const found = own.find(({ id }) => id === ctx.params.id)
    if (!found) throw new PageError('expired_interaction', 'Expected a passkey of this account')
    return found
  }

  function report(
    ctx: RouterContext,
    { about, account }: Reader,
    change: 'added' | 'renamed' | 'removed',
    details: { passkey: string; aaguid?: string },
  ) {
    securityEvents.report(`passkey_${change}`, about)
    const facts = { ...requestFacts(ctx), account: account.id }
    events.passkeyChanged(facts, `passkey.${change}`, details)
  }

  function toPage(ctx: RouterContext) {
    ctx.status = 303
    ctx.redirect(page)
  }

  // WebAuthn Level 3 section 5.11: browsers read it before a page elsewhere uses our RP ID.
  router.get(publicRoutes.webauthn_metadata.path, (ctx, next) => {
    if (relatedOrigins.length === 0) return next()
    ctx.body = { origins: relatedOrigins }
    return undefined
  })

  router.get(publicRoutes.security_passkey_add.path, async (ctx) => {
    await changes.show(ctx, await readers.require(ctx), adding)
  })

  router.post(publicRoutes.security_passkey_add_submit.path, async (ctx) => {
    const submitted = await readers.submitted(ctx)
    if (!(await changes.isConfirmed(ctx, submitted, adding))) return
    const { account, sessionUid } = submitted.reader
    allowScript(ctx, scriptUrl)
    ctx.type = 'html'
    ctx.body = views.newPasskey({
      token: forms.make(sessionUid),
      creation: await passkeys.creationOptions(account, creationPurpose(submitted.reader)),
      name: browserName(ctx.get('user-agent')),
      maxNameLength: maxPasskeyNameCharacters,
    })
  })

  // What it counts on is the challenge of the page before: that page is shown to no one else.
  router.post(publicRoutes.security_passkeys.path, async (ctx) => {
    const { reader, form } = await readers.submitted(ctx)
    const name = readPasskeyName(form.get('name') ?? '') ?? browserName(ctx.get('user-agent'))
    const made = await passkeys.register(form.get('credential') ?? '', creationPurpose(reader), {
      name,
      by: reader.about,
    })
    if (made.id === undefined) {
      const isRefused = made.reason === 'authenticator'
      if (isRefused) {
        events.passkeyNotAllowed(
          { ...requestFacts(ctx), account: reader.account.id },
          made.attestation,
        )
      }
      ctx.status = isRefused ? 403 : 400
      await changes.show(
        ctx,
        reader,
        adding,
        isRefused ? 'passkeys.not_allowed' : 'passkeys.not_added',
      )
      return
    }
    report(ctx, reader, 'added', { passkey: made.id, aaguid: made.aaguid })
    toPage(ctx)
  })

  router.get(publicRoutes.security_passkey_rename.path, async (ctx) => {
    const reader = await readers.require(ctx)
    await changes.show(ctx, reader, renaming(await named(ctx, reader)))
  })

  router.post(publicRoutes.security_passkey_rename_submit.path, async (ctx) => {
    const submitted = await readers.submitted(ctx)
    const { reader, form } = submitted
    const passkey = await named(ctx, reader)
    const typed = form.get('name') ?? ''
    const change = renaming({ ...passkey, name: typed })
    const name = readPasskeyName(typed)
    if (name === undefined) {
      ctx.status = 400
      await changes.show(ctx, reader, change, 'passkeys.invalid_name')
      return
    }
    if (!(await changes.isConfirmed(ctx, submitted, change))) return
    if (await table.rename(passkey.id, name, reader.about)) {
      report(ctx, reader, 'renamed', { passkey: passkey.id })
    }
    toPage(ctx)
  })

  router.get(publicRoutes.security_passkey_remove.path, async (ctx) => {
    const reader = await readers.require(ctx)
    await changes.show(ctx, reader, removing(await named(ctx, reader)))
  })

  router.post(publicRoutes.security_passkey_remove_submit.path, async (ctx) => {
    const submitted = await readers.submitted(ctx)
    const { reader } = submitted
    const passkey = await named(ctx, reader)
    const change = removing(passkey)
    if (!(await changes.isConfirmed(ctx, submitted, change))) return
    if (!(await table.remove(passkey.id, rules.leastPasskeysOf(reader.account), reader.about))) {
      ctx.status = 400
      await changes.show(ctx, reader, change, 'passkeys.last_one')
      return
    }
    report(ctx, reader, 'removed', { passkey: passkey.id })
    toPage(ctx)
  })

  return router
}

const creationPurpose = ({ sessionUid }: Reader) => `create ${sessionUid}`

const adding: Change = {
  name: 'add passkey',
  action: publicRoutes.security_passkey_add_submit.path,
  heading: { key: 'passkeys.add' },
  lead: { key: 'passkeys.add_lead' },
}

const renaming = ({ id, name }: Passkey): Change => ({
  name: `rename passkey ${id}`,
  action: publicRoutes.security_passkey_rename_submit.path.replace(':id', id),
  heading: { key: 'passkeys.rename_heading' },
  lead: { key: 'passkeys.rename_lead' },
  field: {
    name: 'name',
    label: 'passkeys.name',
    value: name,
    maxLength: maxPasskeyNameCharacters,
  },
})

const removing = ({ id, name }: Passkey): Change => ({
  name: `remove passkey ${id}`,
  action: publicRoutes.security_passkey_remove_submit.path.replace(':id', id),
  heading: { key: 'passkeys.remove_heading', values: { name } },
  lead: { key: 'passkeys.remove_lead' },
})
