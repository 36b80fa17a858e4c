import Router from '@koa/router'
import { AccountError } from '../accounts/account-error.ts'
import type { Accounts } from '../accounts/accounts.ts'
import { maxNameCharacters } from '../accounts/profile.ts'
import type { SelfService } from '../config/self-service-config.ts'
import { publicRoutes } from '../http/routes.ts'
import { allowScript } from '../http/script-source.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { MessageKey } from '../pages/messages.ts'
import { PageError } from '../pages/page-error.ts'
import { profileLines } from '../pages/security-page.ts'
import type { Views } from '../pages/views.ts'
import type { Account, AccountChange } from '../storage/account-store.ts'
import type { AccountPages, PasskeyPages } from './account-pages.ts'
import type { Change, ConfirmedChanges } from './confirmed-changes.ts'
import type { Readers } from './reader.ts'

export interface ProfileRouterOptions {
  readonly pages: AccountPages
  readonly readers: Readers
  readonly changes: ConfirmedChanges
  readonly accounts: Pick<Accounts, 'change'>
  readonly selfService: readonly SelfService[]
  /** Undefined where browsers make none for this server. */
  readonly passkeys: PasskeyPages | undefined
  readonly views: Pick<Views, 'profile'>
  readonly events: Pick<Events, 'profileChanged'>
  readonly securityEvents: Pick<SecurityEvents, 'record'>
}

/** What is known of a person, and what of it they may change: the members that the operator allows. */
export function createProfileRouter(options: ProfileRouterOptions): Router {
  const { pages, readers, changes, accounts, selfService, views, events, securityEvents } = options
  const { passkeys } = options
  const router = new Router({ sensitive: true, strict: true })

  const changeable = members.filter(({ member }) => selfService.includes(member))

  router.get(publicRoutes.security_profile.path, (ctx) =>
    pages.show(ctx, 'security_profile', async ({ account }, frame) => {
      if (passkeys) allowScript(ctx, passkeys.scriptUrl)
      return views.profile({
        ...frame,
        lines: profileLines(account),
        signals: passkeys?.signalsOf(account),
        changes: [
          ...changeable.map(({ path, heading }) => ({ path, label: heading })),
          ...(selfService.includes('email') ? [emailChange] : []),
        ],
      })
    }),
  )

  for (const { member, path, changeOf, made, invalid } of members) {
    const requireAllowed = () => {
      if (selfService.includes(member)) return
      throw new PageError('invalid_form', 'Expected a server on which people change this')
    }

    router.get(path, async (ctx) => {
      requireAllowed()
      const reader = await readers.require(ctx)
      await changes.show(ctx, reader, changeOf(reader.account))
    })

    router.post(path, async (ctx) => {
      requireAllowed()
      const submitted = await readers.submitted(ctx)
      const { reader, form } = submitted
      const change = changeOf(reader.account)
      if (!(await changes.isConfirmed(ctx, submitted, change))) return
      try {
        await accounts.change(reader.account.email, made(form.get(member) ?? ''))
      } catch (error) {
        if (!(error instanceof AccountError)) throw error
        ctx.status = 400
        await changes.show(ctx, reader, change, invalid)
        return
      }
      events.profileChanged({ ...requestFacts(ctx), account: reader.account.id }, { member })
      await securityEvents.record('profile_changed', reader.about)
      pages.redirect(ctx, 'security_profile')
    })
  }

  return router
}

const emailChange = {
  path: publicRoutes.security_email.path,
  label: { key: 'profile.change_email' },
} as const

interface Member {
  readonly member: 'name' | 'locale'
  readonly path: string
  readonly heading: Change['heading']
  readonly changeOf: (account: Account) => Change
  readonly made: (value: string) => AccountChange
  readonly invalid: MessageKey
}

const members: readonly Member[] = [
  memberOf('name', publicRoutes.security_name_submit.path, {
    heading: { key: 'profile.change_name' },
    lead: { key: 'profile.change_name_lead' },
    invalid: 'profile.invalid_name',
    label: 'profile.name',
    value: ({ name }) => name,
    maxLength: maxNameCharacters,
    made: (name) => ({ name }),
  }),
  memberOf('locale', publicRoutes.security_locale_submit.path, {
    heading: { key: 'profile.change_locale' },
    lead: { key: 'profile.change_locale_lead' },
    invalid: 'profile.invalid_locale',
    label: 'profile.locale',
    value: ({ locale }) => locale,
    maxLength: 35,
    made: (locale) => ({ profile: { locale } }),
  }),
]

type Labels = Pick<Change, 'heading' | 'lead'> & Pick<Member, 'made' | 'invalid'>

function memberOf(
  member: Member['member'],
  path: string,
  {
    value,
    label,
    maxLength,
    ...labels
  }: Labels & {
    readonly label: MessageKey
    readonly value: (account: Account) => string | undefined
    readonly maxLength: number
  },
): Member {
  const { heading, lead, made, invalid } = labels
  return {
    ...{ member, path, heading, made, invalid },
    changeOf: (account) => ({
      ...{ heading, lead },
      name: `change ${member}`,
      action: path,
      back: publicRoutes.security_profile.path,
      field: { name: member, label, value: value(account) ?? '', maxLength },
    }),
  }
}
