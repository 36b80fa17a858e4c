import Router, { type RouterContext } from '@koa/router'
import { type AccountLinks, linkDigest } from '../accounts/account-links.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { clientInfo } from '../http/client-info.ts'
import { readForm } from '../http/form-body.ts'
import type { NewPasswords } from '../http/new-password.ts'
import type { FormProblem } from '../http/passkey-form.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { SignUpReturn } from '../http/sign-up-return.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import { browserName } from '../pages/browser-labels.ts'
import { PageError } from '../pages/page-error.ts'
import type { Views } from '../pages/views.ts'
import { type Passkeys, readPasskeyName } from '../passkeys/passkeys.ts'
import type { Account } from '../storage/account-store.ts'

export interface LinkRouterOptions {
  readonly links: Pick<AccountLinks, 'find' | 'setPassword'>
  /** Undefined where browsers make none for this server. */
  readonly passkeys: Passkeys | undefined
  readonly newPasswords: NewPasswords
  readonly rules: Pick<SignInRules, 'setsPassword'>
  readonly views: Pick<Views, 'accountLink' | 'accountLinkDone'>
  readonly events: Pick<Events, 'linkUsed' | 'passkeyNotAllowed'>
  readonly securityEvents: Pick<SecurityEvents, 'report'>
  readonly signUpReturn: Pick<SignUpReturn, 'pathOf'>
  readonly scripts: { readonly passkeys: string; readonly password: string }
}

/**
 * The page of a one-time link, in which a person sets a passkey or a password. Who knows the address
 * may do that: its token is the only secret, and the sender of a form has shown it. A page that is
 * opened, by a person or by a program that previews links, uses nothing up.
 */
export function createLinkRouter(options: LinkRouterOptions): Router {
  const { links, passkeys, newPasswords, rules, views, events, securityEvents, scripts } = options
  const router = new Router({ sensitive: true, strict: true })

  async function require(ctx: RouterContext) {
    const token = String(ctx.params.token)
    const found = await links.find(token)
    if (!found) throw expired()
    const { account, isMailed } = found
    // A mailbox alone is no way around a second factor: a passkey asks for no code afterwards.
    const isGuarded = isMailed && account.hasCodeApp === true && rules.setsPassword
    return { token, account, passkeys: isGuarded ? undefined : passkeys }
  }

  type Opened = Awaited<ReturnType<typeof require>>

  async function show(
    ctx: RouterContext,
    { token, account, passkeys }: Opened,
    problem?: FormProblem['problem'],
  ) {
    const creation = await passkeys?.creationOptions(account, purposeOf(token))
    if (creation) allowScript(ctx, scripts.passkeys)
    if (rules.setsPassword) allowScript(ctx, scripts.password)
    ctx.type = 'html'
    ctx.body = views.accountLink({
      ...{ token, creation, email: account.email },
      name: browserName(ctx.get('user-agent')),
      password: rules.setsPassword,
      ...(problem && { problem }),
    })
  }

  function done(ctx: RouterContext, account: Account, credential: 'password' | 'passkey') {
    const kind = credential === 'password' ? 'password_changed' : 'passkey_added'
    securityEvents.report(kind, { accountId: account.id, ...clientInfo(ctx) })
    events.linkUsed({ ...requestFacts(ctx), account: account.id }, { credential })
    ctx.type = 'html'
    ctx.body = views.accountLinkDone({ credential, signIn: options.signUpReturn.pathOf(ctx) })
  }

  router.get(publicRoutes.account_link.path, async (ctx) => {
    await show(ctx, await require(ctx))
  })

  router.post(publicRoutes.account_link_password.path, async (ctx) => {
    if (!rules.setsPassword) throw new PageError('invalid_form', 'Expected a server with passwords')
    const opened = await require(ctx)
    const { token, account } = opened
    const password = (await readForm(ctx)).get('password') ?? ''
    const facts = { ...requestFacts(ctx), account: account.id }
    const made = await newPasswords.hash(ctx, account, { password, facts })
    if (made.hash === undefined) {
      ctx.status = made.status
      await show(ctx, opened, made.problem)
      return
    }
    if (!(await links.setPassword(token, made.hash, clientInfo(ctx)))) throw expired()
    done(ctx, account, 'password')
  })

  router.post(publicRoutes.account_link_passkey.path, async (ctx) => {
    const opened = await require(ctx)
    const { token, account, passkeys } = opened
    if (!passkeys) throw new PageError('invalid_form', 'Expected a link that passkeys count for')
    const form = await readForm(ctx)
    const name = readPasskeyName(form.get('name') ?? '') ?? browserName(ctx.get('user-agent'))
    const by = { accountId: account.id, sessionUid: undefined, ...clientInfo(ctx) }
    const made = await passkeys.register(form.get('credential') ?? '', purposeOf(token), {
      ...{ name, by },
      link: linkDigest(token),
    })
    if (made.id === undefined) {
      const isRefused = made.reason === 'authenticator'
      if (isRefused) {
        events.passkeyNotAllowed({ ...requestFacts(ctx), account: account.id }, made.attestation)
      }
      ctx.status = isRefused ? 403 : 400
      await show(ctx, opened, isRefused ? 'passkeys.not_allowed' : 'passkeys.not_added')
      return
    }
    done(ctx, account, 'passkey')
  })

  return router
}

const purposeOf = (token: string) => `link ${linkDigest(token).toString('base64url')}`

const expired = () => new PageError('expired_link', 'Expected a link that can be used')
