import type { Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { createAccountPages } from './account-page/account-pages.ts'
import { createApplicationsRouter } from './account-page/applications-router.ts'
import { createCodeAppRouter } from './account-page/code-app-router.ts'
import { createConfirmedChanges } from './account-page/confirmed-changes.ts'
import { createDataRouter } from './account-page/data-router.ts'
import { createEmailRouter, emailChangeLimit } from './account-page/email-router.ts'
import { createForgottenRouter } from './account-page/forgotten-router.ts'
import { createFreshAuthentication } from './account-page/fresh-authentication.ts'
import { createLinkRouter } from './account-page/link-router.ts'
import { createPasskeyRouter } from './account-page/passkey-router.ts'
import { createPasswordRouter } from './account-page/password-router.ts'
import { createProfileRouter } from './account-page/profile-router.ts'
import { createReaders } from './account-page/reader.ts'
import { createSecurityRouter } from './account-page/security-router.ts'
import { createSessionsRouter } from './account-page/sessions-router.ts'
import {
  createSignUpRouter,
  signUpAddressLimit,
  signUpNetworkLimits,
  signUpTotalLimit,
} from './account-page/sign-up-router.ts'
import { createAccountLinks } from './accounts/account-links.ts'
import { createEmailChanges } from './accounts/email-changes.ts'
import { createSignUps } from './accounts/sign-ups.ts'
import { createApprovalsRouter } from './approvals/approvals-router.ts'
import { createSignInRules } from './clients/sign-in-rules.ts'
import { createCodeForms } from './http/code-form.ts'
import { createNewPasswords, newPasswordLimit } from './http/new-password.ts'
import { createPageKeyForms } from './http/page-key-form.ts'
import { createPasskeyForms, type PasskeyForms } from './http/passkey-form.ts'
import { createPasswordForms } from './http/password-form.ts'
import { inTurn, routesOf } from './http/routers.ts'
import { emailChangeAddress, linkAddress, publicRoutes, signUpAddress } from './http/routes.ts'
import { createSignUpReturn, type SignUpReturn } from './http/sign-up-return.ts'
import {
  createInteractionRouter,
  type InteractionDependencies,
} from './interaction/interaction-router.ts'
import {
  codeLimits,
  createLoginLimits,
  emailChangeLimits,
  forgottenLimits,
} from './limits/login-limits.ts'
import { createNetworkLimit } from './limits/network-limit.ts'
import { createEmailChangeMail } from './mail/outbox.ts'
import type { FindResourceLabels } from './pages/scope-labels.ts'
import type { Parts } from './parts.ts'
import { dbscMiddleware } from './session-binding/dbsc-middleware.ts'
import { createInterstitial, createPageKeyPages } from './session-binding/page-key-pages.ts'
import { createProofRouter } from './session-binding/proof-router.ts'

/** Passkeys of one network that are looked at in a minute although they are refused. */
const refusedPasskeysPerMinute = 60

/** Sign-in, consent, My security, and proofs of the browser's key. */
export function browserFeatures(parts: Parts, { engine: provider }: { engine: Provider }) {
  const { config, storage, accounts, views, forms, dbsc, pageKeys, keys } = parts
  const { events } = parts.observability
  const { browserSessions: sessions } = storage
  const rules = createSignInRules(config.passkeys, storage.passkeys)
  const passkeys = passkeyFormsOf(parts)
  const passwords = createPasswordForms({
    accounts,
    usernames: config.passkeys.usernames,
    limits: createLoginLimits(storage.signInAttempts, {
      attempts: config.operations.loginLimit,
      perNetwork: config.operations.loginNetworkLimit,
    }),
    failures: storage.failedSignIns,
    rules,
    events,
  })
  const codes = createCodeForms({
    table: storage.secondFactors,
    vault: keys.vault,
    limits: createLoginLimits(storage.signInAttempts, codeLimits),
    events,
    securityEvents: parts.securityEvents,
    now: keys.now,
  })
  const resourceLabels = resourceLabelsOf(parts)
  const scriptUrl = scriptUrlsOf(parts).pageKey
  const pageKeyPages =
    pageKeys && createPageKeyPages({ pageKeys, scriptUrl, interstitial: views.interstitial })
  const interstitial = createInterstitial(views.interstitial, pageKeyPages)
  const interactions = createInteractionRouter({
    provider,
    accounts,
    views,
    events,
    forms,
    async endSession(sessionUid, accountId, by) {
      if (!(await sessions.end(sessionUid))) return
      await parts.securityEvents.record('session_ended', { accountId, sessionUid, ...by })
    },
    passkeys,
    pageKeys:
      pageKeys && createPageKeyForms({ pageKeys, scriptUrl, securityEvents: parts.securityEvents }),
    passwords,
    codes,
    challenges: parts.challenges,
    rules,
    usernames: config.passkeys.usernames,
    signUp: config.signUp.mode !== 'closed',
    resourceLabels,
    detailsType: storage.detailsTypes.find,
    async onAllowed(clientId) {
      await parts.documents?.remember(clientId)
      const client = await storage.clients.find(clientId)
      if (client?.open_client === 'registration') await storage.registrations.keepOpen(clientId)
    },
  })
  const approvals = createApprovalsRouter({
    provider,
    accounts,
    views,
    events,
    tables: storage,
    rules,
    resourceLabels,
    detailsType: storage.detailsTypes.find,
    address: config.issuer,
    base: parts.base,
    forms,
    now: keys.now,
  })
  return {
    account: accountFeature(parts, { provider, passkeys, passwords, codes, rules }),
    approvals: routesOf(approvals),
    dbsc: dbscMiddleware({
      provider,
      dbsc,
      events: parts.securityEvents,
      pageKeys,
      pageKeyPages,
      interstitial,
    }),
    interactions: routesOf(interactions),
    proofs: routesOf(
      createProofRouter({
        provider,
        dbsc,
        pageKeys,
        sessions,
        interstitial,
        now: keys.now,
      }),
    ),
  }
}

/** The pages of an account, and those on which something is changed. */
function accountFeature(
  parts: Parts,
  {
    provider,
    ...signIn
  }: Pick<InteractionDependencies, 'provider' | 'passkeys' | 'passwords' | 'codes' | 'rules'>,
): Middleware {
  const { config, storage, accounts, views, forms, base, passkeys, securityEvents } = parts
  const { selfService } = config
  const publicOrigin = new URL(config.issuer).origin
  const readers = createReaders({ provider, accounts, forms })
  const { events } = parts.observability
  const scripts = scriptUrlsOf(parts)
  const changes = createConfirmedChanges({
    fresh: createFreshAuthentication({ ...signIn, accounts, table: storage.passkeys }),
    forms,
    views,
    passwordScript: scripts.password,
  })
  const newPasswords = createNewPasswords({
    accounts,
    limiter: storage.rateLimits.makeLimiter(newPasswordLimit),
    events,
  })
  const { relatedOrigins } = config.passkeys
  const passkeyPages = passkeys && { ...passkeys, scriptUrl: scripts.passkeys }
  const signUpReturn = createSignUpReturn({ issuer: config.issuer, base })
  const page = base + publicRoutes.security_sign_in.path
  const { rules } = signIn
  const pages = createAccountPages({
    ...{ readers, forms, publicOrigin, base },
    hasApprovals: storage.clients.hasCiba,
    hasData: selfService.includes('export') || selfService.includes('delete'),
    timesScript: scripts.times,
  })
  const common = { readers, changes, rules, forms, views, events, securityEvents, page }
  return inTurn([
    createSecurityRouter({
      ...{ pages, views, accounts, rules },
      tables: storage,
      passkeys: passkeyPages,
    }),
    createProfileRouter({ ...common, pages, accounts, selfService, passkeys: passkeyPages }),
    createEmailRouter({
      ...common,
      selfService,
      confirmations: changes,
      emailChanges: emailChangesOf(parts),
      limits: createLoginLimits(storage.signInAttempts, emailChangeLimits),
      accountLimit: storage.rateLimits.makeLimiter(emailChangeLimit),
    }),
    createDataRouter({
      ...common,
      ...{ pages, selfService, passkeys: passkeyPages },
      tables: storage,
      store: storage.accounts,
    }),
    createSessionsRouter({
      ...{ pages, readers, views },
      browserSessions: storage.browserSessions,
      events: securityEvents,
    }),
    createApplicationsRouter({
      ...{ pages, readers, views },
      artifacts: storage.artifacts,
      clients: parts.knownClients,
      events: securityEvents,
      resourceLabels: resourceLabelsOf(parts),
      detailsType: storage.detailsTypes.find,
    }),
    createCodeAppRouter({
      ...common,
      table: storage.secondFactors,
      vault: parts.keys.vault,
      challenges: parts.challenges,
      host: new URL(config.issuer).host,
      now: parts.keys.now,
    }),
    createPasswordRouter({ ...common, newPasswords, store: storage.accounts }),
    createForgottenRouter({
      ...{ views, events, outbox: parts.outbox },
      limits: createLoginLimits(storage.signInAttempts, forgottenLimits),
    }),
    createLinkRouter({
      ...common,
      ...{ passkeys, newPasswords, scripts, signUpReturn },
      links: createAccountLinks({
        table: storage.accountLinks,
        store: storage.accounts,
        address: linkAddress(config.issuer),
      }),
    }),
    ...signUpRouters(parts, signUpReturn),
    ...(passkeys
      ? [
          createPasskeyRouter({
            ...common,
            ...{ passkeys, relatedOrigins, scriptUrl: scripts.passkeys },
            table: storage.passkeys,
          }),
        ]
      : []),
  ])
}

/** None where people make no accounts for themselves. */
function signUpRouters(parts: Parts, signUpReturn: SignUpReturn) {
  const { config, outbox, storage, views, base } = parts
  const { signUp: policy, issuer } = config
  if (policy.mode === 'closed' || !outbox) return []
  const { makeLimiter } = storage.rateLimits
  return [
    createSignUpRouter({
      ...{ policy, outbox, signUpReturn, views, base },
      events: parts.observability.events,
      signUps: createSignUps({
        policy,
        table: storage.signUps,
        store: storage.accounts,
        address: signUpAddress(issuer),
      }),
      limits: {
        network: createLoginLimits(storage.signInAttempts, signUpNetworkLimits),
        address: makeLimiter(signUpAddressLimit),
        total: makeLimiter(signUpTotalLimit),
      },
    }),
  ]
}

/** Undefined where no mail is sent. */
function emailChangesOf({ outbox, storage, config: { issuer } }: Parts) {
  return (
    outbox &&
    createEmailChanges({
      table: storage.emailChanges,
      address: emailChangeAddress(issuer),
      mail: createEmailChangeMail(outbox),
    })
  )
}

function resourceLabelsOf({ storage }: Parts): FindResourceLabels {
  return async (identifier) => {
    const found = await storage.resourceServers.find(identifier)
    if (!found) return undefined
    const scopes = new Map(Object.entries(found.scopeLabels))
    return { ...(found.name !== null && { name: found.name }), scopes }
  }
}

/** Passkeys in forms; the sign-in page and My security count what they refuse together. */
function passkeyFormsOf(parts: Parts): PasskeyForms | undefined {
  const { passkeys, siblings, securityEvents } = parts
  return (
    passkeys &&
    createPasskeyForms({
      passkeys,
      limit: createNetworkLimit({
        name: 'passkeys',
        perMinute: refusedPasskeysPerMinute,
        ...(siblings && { siblings }),
      }),
      events: parts.observability.events,
      securityEvents,
      scriptUrl: scriptUrlsOf(parts).passkeys,
    })
  )
}

/** Scripts of our pages, absolute. */
function scriptUrlsOf({ config: { issuer }, assets: { urls } }: Parts) {
  const { origin } = new URL(issuer)
  return {
    passkeys: origin + urls.passkeys,
    password: origin + urls.password,
    times: origin + urls.times,
    pageKey: origin + urls.pageKey,
  }
}
