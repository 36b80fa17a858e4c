import Router, { type RouterContext } from '@koa/router'
import type { Provider } from 'oidc-provider'
import type { Accounts } from '../accounts/accounts.ts'
import { acrOf, knownAcrs, meetsAcr } from '../accounts/acr.ts'
import type { AuthorizationDetail } from '../authorization-details/authorization-details.ts'
import { signInUrl } from '../clients/security-client.ts'
import type { SignInRules } from '../clients/sign-in-rules.ts'
import { heldBy } from '../engine/session-model.ts'
import { readForm } from '../http/form-body.ts'
import type { FormTokens } from '../http/form-token.ts'
import { publicRoutes } from '../http/routes.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import { bindingLabels } from '../pages/binding-labels.ts'
import { describeConsent, type FindDetailsType } from '../pages/consent-sections.ts'
import { PageError } from '../pages/page-error.ts'
import type { FindResourceLabels } from '../pages/scope-labels.ts'
import type { ApprovalLine, Views } from '../pages/views.ts'
import type {
  BackchannelRequestTable,
  PendingBackchannelRequest,
} from '../storage/backchannel-request-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'

export interface ApprovalsOptions {
  readonly provider: Provider
  readonly accounts: Pick<Accounts, 'findActive'>
  readonly views: Pick<Views, 'approvals'>
  readonly events: Pick<Events, 'approvalGiven' | 'approvalDenied'>
  readonly tables: {
    readonly backchannelRequests: BackchannelRequestTable
    readonly clients: Pick<ClientTable, 'find'>
    readonly resourceServers: Pick<ResourceServerTable, 'find'>
  }
  readonly rules: Pick<SignInRules, 'groupDemands'>
  readonly resourceLabels: FindResourceLabels
  readonly detailsType: FindDetailsType
  /** Address of this server, with its path. */
  readonly address: string
  readonly base: string
  readonly forms: FormTokens
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Requests that a page shows: of more the latest. */
const shownRequests = 10

/** Seconds since the sign-in by which a page is shown, and by which its form is good. */
const freshS = 5 * 60
const freshFormS = 15 * 60

/** What is stored of a request. */
interface StoredRequest {
  readonly clientId: string
  readonly bindingMessage: string
  readonly scope?: string
  readonly resource?: string | readonly string[]
  readonly rar?: readonly AuthorizationDetail[]
}

/** Where a person decides about requests of the backchannel (CIBA): a page beside My security. */
export function createApprovalsRouter(options: ApprovalsOptions): Router {
  const { provider, accounts, views, events, tables, address, base, forms, now } = options
  const { backchannelRequests: requests, clients } = tables
  const router = new Router({ sensitive: true, strict: true })
  const page = base + publicRoutes.approvals.path

  /** Who reads, in a session whose sign-in is as recent as is needed; undefined for anyone else. */
  async function reader(ctx: RouterContext, withinS: number) {
    const session = await provider.Session.get(ctx)
    const { uid, accountId, loginTs } = session
    const signedInS = now() / 1000 - (loginTs ?? 0)
    const account = accountId && (await accounts.findActive(accountId))
    return account && signedInS <= withinS ? { uid, account, session } : undefined
  }

  async function lineOf({ id, payload }: PendingBackchannelRequest): Promise<ApprovalLine[]> {
    const request = payload as unknown as StoredRequest
    const client = await clients.find(request.clientId)
    if (!client) return []
    const { resources, scopes } = await partsOf(request, tables)
    const asked = { scopes, claims: [], resources, details: request.rar ?? [] }
    return [
      {
        id,
        client: { name: client.client_name ?? request.clientId },
        message: request.bindingMessage,
        asked: await describeConsent(asked, options.resourceLabels, options.detailsType),
        binding: bindingLabels(client.binding_method),
      },
    ]
  }

  router.get(publicRoutes.approvals.path, async (ctx) => {
    const who = await reader(ctx, freshS)
    // With the answer of /authorize, whether they have signed in or not.
    const isBack = ctx.query.iss !== undefined
    if (!who && isBack) throw new PageError('sign_in_first', 'Expected a session')
    if (!who || isBack) {
      ctx.status = 303
      ctx.redirect(who ? page : signInUrl(address, { to: 'approvals', withinS: freshS }))
      return
    }
    const pending = await requests.listPending(who.account.id, shownRequests)
    ctx.type = 'html'
    ctx.body = views.approvals({
      email: who.account.email,
      token: forms.make(who.uid),
      requests: (await Promise.all(pending.map(lineOf))).flat(),
    })
  })

  /** What the sign-in must be for the application and its person, and is not: the strongest first. */
  async function missingAcr(
    { clientId }: StoredRequest,
    { account, session }: NonNullable<Awaited<ReturnType<typeof reader>>>,
  ) {
    const client = await clients.find(clientId)
    if (!client) throw expired()
    const signIn = { amr: session.amr ?? [], ...heldBy(session) }
    return [
      client.session_policy?.required_acr ?? [],
      ...options.rules.groupDemands(account.groups, clientId),
    ]
      .flat()
      .filter((acr) => !meetsAcr(signIn, acr))
      .sort((a, b) => knownAcrs.indexOf(a) - knownAcrs.indexOf(b))[0]
  }

  /** The request that a form is about, of the person who has sent it. */
  async function submitted(ctx: RouterContext) {
    const who = await reader(ctx, freshFormS)
    if (!who) throw new PageError('sign_in_first', 'Expected a session')
    const form = await readForm(ctx)
    if (!forms.accepts(who.uid, form.get('token') ?? '')) {
      throw new PageError('invalid_form', 'Expected the token of this session')
    }
    const id = form.get('request') ?? ''
    const pending = await requests.listPending(who.account.id, shownRequests)
    const found = pending.find((each) => each.id === id)
    if (!found) throw expired()
    const facts = { ...requestFacts(ctx), account: who.account.id }
    return { ...who, id, found, request: found.payload as unknown as StoredRequest, facts }
  }

  router.post(publicRoutes.approvals_approve.path, async (ctx) => {
    const { account, session, id, found, request, facts, ...who } = await submitted(ctx)
    const acr = await missingAcr(request, { ...who, account, session })
    if (acr) {
      ctx.status = 303
      ctx.redirect(signInUrl(address, { to: 'approvals', withinS: freshS, acr }))
      return
    }
    const { resources, scopes } = await partsOf(request, tables)
    const grant = new provider.Grant({ accountId: account.id, clientId: request.clientId })
    if (scopes.length) grant.addOIDCScope(scopes.join(' '))
    for (const { indicator, scopes } of resources)
      grant.addResourceScope(indicator, scopes.join(' '))
    if (request.rar) grant.rar = [...request.rar]
    const grantId = await grant.save()
    const amr = session.amr ?? []
    const payload = {
      ...found.payload,
      grantId,
      amr,
      acr: acrOf({ amr, isBound: false }, []),
      authTime: session.loginTs,
    }
    if (!(await requests.decide(account.id, id, { grantId, payload }))) {
      await grant.destroy()
      throw expired()
    }
    events.approvalGiven({ ...facts, client: request.clientId })
    ctx.status = 303
    ctx.redirect(page)
  })

  router.post(publicRoutes.approvals_deny.path, async (ctx) => {
    const { account, id, found, request, facts } = await submitted(ctx)
    const payload = { ...found.payload, error: 'access_denied' }
    const decision = { grantId: undefined, payload }
    if (!(await requests.decide(account.id, id, decision))) throw expired()
    events.approvalDenied({ ...facts, client: request.clientId })
    ctx.status = 303
    ctx.redirect(page)
  })

  return router
}

function expired(): PageError {
  return new PageError('expired_interaction', 'Expected a request that waits for this person')
}

/** The scopes of a request: of this server, and of each API. */
async function partsOf(
  { scope = '', resource }: StoredRequest,
  { resourceServers }: ApprovalsOptions['tables'],
) {
  const scopes = scope.split(' ').filter(Boolean)
  const servers = await Promise.all(
    (resource === undefined ? [] : [resource].flat()).map((each) => resourceServers.find(each)),
  )
  const known = servers.filter((server) => server !== undefined)
  const ofApis = new Set(known.flatMap((server) => server.scopes))
  return {
    scopes: scopes.filter((each) => !ofApis.has(each)),
    resources: known
      .map(({ identifier, scopes: all }) => ({
        indicator: identifier,
        scopes: scopes.filter((each) => all.includes(each)),
      }))
      .filter(({ scopes }) => scopes.length > 0),
  }
}
