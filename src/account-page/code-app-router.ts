import Router, { type RouterContext } from '@koa/router'
import { renderSVG } from 'uqr'
import {
  canonicalCode,
  codeAppUri,
  makeCodeSecret,
  makeRecoveryCodes,
  printedCodeDigest,
  stepOfCode,
} from '../accounts/one-time-codes.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { codeAppOf } from '../http/code-form.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import type { Vault } from '../keys/vault.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { MessageKey } from '../pages/messages.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import type { Challenges } from '../passkeys/challenge.ts'
import { replayEntry } from '../storage/replay-table.ts'
import type { SecondFactorTable } from '../storage/second-factor-table.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import type { Reader, Readers } from './reader.ts'

export interface CodeAppRouterOptions {
  readonly table: Pick<SecondFactorTable, 'setCodeApp' | 'removeCodeApp' | 'replaceRecoveryCodes'>
  readonly vault: Vault
  readonly challenges: Challenges
  readonly readers: Readers
  readonly changes: ConfirmedChanges
  readonly rules: Pick<SignInRules, 'setsPassword' | 'secondFactor'>
  readonly forms: FormTokens
  readonly views: Pick<Views, 'newCodeApp' | 'recoveryCodes'>
  readonly events: Pick<Events, 'secondFactorChanged'>
  readonly securityEvents: Pick<SecurityEvents, 'report'>
  /** Names the account in code apps. */
  readonly host: string
  /** Where My security is. */
  readonly page: string
  readonly now: () => number
}

/** Time to take a phone, to install an app, and to type a code. */
const pageLifetimeS = 10 * 60

/** Setting up and removing a code app at My security, and its recovery codes. */
export function createCodeAppRouter(options: CodeAppRouterOptions): Router {
  const { table, vault, challenges, readers, changes, rules, forms, views } = options
  const { events, securityEvents, host, page, now } = options
  const router = new Router({ sensitive: true, strict: true })

  function requirePasswords() {
    if (!rules.setsPassword) throw new PageError('invalid_form', 'Expected a server with passwords')
  }

  /** The page says for which secret and session it was made: only someone who has authenticated sees one. */
  const purposeOf = ({ sessionUid }: Reader, secret: string) => `code app ${sessionUid} ${secret}`

  function showNew(ctx: RouterContext, reader: Reader, secret: string, problem?: MessageKey) {
    const uri = codeAppUri(secret, { email: reader.account.email, host })
    ctx.type = 'html'
    ctx.body = views.newCodeApp({
      token: forms.make(reader.sessionUid),
      ...{ secret, uri },
      proof: challenges.make(purposeOf(reader, secret), pageLifetimeS),
      qr: renderSVG(uri),
      ...(problem && { problem }),
    })
  }

  function report(
    ctx: RouterContext,
    { about, account }: Reader,
    change: 'code_app_set_up' | 'code_app_removed' | 'recovery_codes_replaced',
  ) {
    securityEvents.report(change, about)
    events.secondFactorChanged({ ...requestFacts(ctx), account: account.id }, change)
  }

  function showCodes(ctx: RouterContext, codes: readonly string[]) {
    ctx.type = 'html'
    ctx.body = views.recoveryCodes({ codes })
  }

  const digestsOf = (codes: readonly string[]) =>
    codes.flatMap((code) => printedCodeDigest(code) ?? [])

  router.get(publicRoutes.security_code_app.path, async (ctx) => {
    requirePasswords()
    await changes.show(ctx, await readers.require(ctx), settingUp)
  })

  router.post(publicRoutes.security_code_app_submit.path, async (ctx) => {
    requirePasswords()
    const submitted = await readers.submitted(ctx)
    if (!(await changes.isConfirmed(ctx, submitted, settingUp))) return
    showNew(ctx, submitted.reader, makeCodeSecret())
  })

  // What it counts on is the proof of the page before: that page is shown to no one else.
  router.post(publicRoutes.security_code_app_confirm.path, async (ctx) => {
    requirePasswords()
    const { reader, form } = await readers.submitted(ctx)
    const [secret, proof] = [form.get('secret') ?? '', form.get('proof') ?? '']
    const expiresAt = challenges.endOf(purposeOf(reader, secret), proof)
    if (expiresAt === undefined)
      throw new PageError('invalid_form', 'Expected a page of this session')
    const step = stepOfCode(secret, canonicalCode(form.get('code') ?? ''), now())
    if (step === undefined) {
      ctx.status = 400
      showNew(ctx, reader, secret, 'code_app.wrong')
      return
    }
    const codes = makeRecoveryCodes()
    const sealed = await vault.seal(secret, codeAppOf(reader.account.id))
    const entry = replayEntry('code app', proof, expiresAt)
    if (
      !(await table.setCodeApp({ sealed, step, digests: digestsOf(codes) }, entry, reader.about))
    ) {
      throw new PageError('invalid_form', 'Expected a page that was not used')
    }
    report(ctx, reader, 'code_app_set_up')
    showCodes(ctx, codes)
  })

  router.get(publicRoutes.security_recovery_codes.path, async (ctx) => {
    await changes.show(ctx, await readers.require(ctx), replacingCodes)
  })

  router.post(publicRoutes.security_recovery_codes_submit.path, async (ctx) => {
    const submitted = await readers.submitted(ctx)
    const { reader } = submitted
    if (!(await changes.isConfirmed(ctx, submitted, replacingCodes))) return
    const codes = makeRecoveryCodes()
    if (!(await table.replaceRecoveryCodes(digestsOf(codes), reader.about))) {
      throw new PageError('invalid_form', 'Expected an account with a code app')
    }
    report(ctx, reader, 'recovery_codes_replaced')
    showCodes(ctx, codes)
  })

  function requireRemovable() {
    if (rules.secondFactor === 'optional') return
    throw new PageError('invalid_form', 'Expected a server that takes a password alone')
  }

  router.get(publicRoutes.security_code_app_remove.path, async (ctx) => {
    requireRemovable()
    await changes.show(ctx, await readers.require(ctx), removing)
  })

  router.post(publicRoutes.security_code_app_remove_submit.path, async (ctx) => {
    requireRemovable()
    const submitted = await readers.submitted(ctx)
    if (!(await changes.isConfirmed(ctx, submitted, removing))) return
    if (await table.removeCodeApp(submitted.reader.about)) {
      report(ctx, submitted.reader, 'code_app_removed')
    }
    ctx.status = 303
    ctx.redirect(page)
  })

  return router
}

const settingUp: Change = {
  name: 'set up code app',
  action: publicRoutes.security_code_app_submit.path,
  heading: { key: 'code_app.set_up' },
  lead: { key: 'code_app.set_up_lead' },
}

const replacingCodes: Change = {
  name: 'replace recovery codes',
  action: publicRoutes.security_recovery_codes_submit.path,
  heading: { key: 'recovery.heading' },
  lead: { key: 'recovery.replace_lead' },
}

const removing: Change = {
  name: 'remove code app',
  action: publicRoutes.security_code_app_remove_submit.path,
  heading: { key: 'code_app.remove_heading' },
  lead: { key: 'code_app.remove_lead' },
}
