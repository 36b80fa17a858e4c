/** The endpoints for machines as routes: the only file here that knows koa. */

import type { IncomingMessage } from 'node:http'
import { readDPoPHeader } from '@holdfast/verify/authorization-server'
import type { Context, Middleware } from 'koa'
import type { ConnectionProofs } from '../bindings/binding.ts'
import type { BindingLabel, Events, Facts, ShownKeys } from '../observability/events.ts'
import { DatabaseUnavailableError } from '../storage/database-unavailable.ts'
import { readForm } from './form.ts'
import { signedIntrospection } from './introspection.ts'
import type { MachineRequest, Outcome, Report } from './machine-request.ts'
import { isRefusal, type Refusal, refusalBody, refusalForOperators, refusals } from './refusal.ts'
import type { TokenClient } from './token-request.ts'

/** Serves requests of one endpoint. */
export type Endpoint = (request: MachineRequest) => Promise<Outcome>

export interface TokenRouteOptions {
  readonly issuer: string
  /** The path of the issuer. */
  readonly base: string
  readonly endpoints: Readonly<Record<EndpointName, Endpoint>>
  readonly edge: {
    proofsOf(ctx: Pick<Context, 'state'>): ConnectionProofs
    originOf(request: IncomingMessage): URL
  }
  readonly events: Events
  /** Whether a client assertion may name an endpoint instead of the issuer. */
  readonly acceptsEndpointAudiences: boolean
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

type EndpointName = 'token' | 'introspection' | 'revocation'

const paths = { token: '/token', introspection: '/introspect', revocation: '/revoke' } as const

/** What operators know the endpoints by, in logs and metrics. */
const labels = { token: 'grant', introspection: 'introspection', revocation: 'revocation' } as const

/** What requests to the endpoints are answered by. Preflights are the engine's. */
export function createTokenRoutes(
  options: TokenRouteOptions,
): Readonly<Record<EndpointName, Middleware>> {
  const middleware = (name: EndpointName): Middleware => {
    const exposed = name === 'token' ? 'DPoP-Nonce,WWW-Authenticate' : 'WWW-Authenticate'
    const headers = new Map([
      ['cache-control', 'no-store'],
      ['access-control-expose-headers', exposed],
      ['vary', 'Origin'],
    ])
    return async (ctx) => {
      ctx.res.setHeaders(headers)
      ctx.res.setHeader('access-control-allow-origin', ctx.get('origin') || '*')
      await serve(ctx, name, options)
    }
  }
  return {
    token: middleware('token'),
    introspection: middleware('introspection'),
    revocation: middleware('revocation'),
  }
}

async function serve(ctx: Context, name: EndpointName, options: TokenRouteOptions): Promise<void> {
  const { issuer, base, endpoints, edge, events, now, acceptsEndpointAudiences } = options
  const facts: Facts = { requestId: ctx.state.requestId, address: ctx.state.address }
  try {
    const form = await readForm(ctx.req)
    if (isRefusal(form)) return answer(ctx, name, { result: form }, facts, options)
    const { origin } = edge.originOf(ctx.req)
    const uri = origin + base + paths[name]
    const endpointUris = [origin + base + paths.token, uri]
    const outcome = await endpoints[name]({
      form,
      authorization: ctx.req.headers.authorization,
      dpop: readDPoPHeader(ctx.req.rawHeaders),
      wantsSigned:
        name === 'introspection' &&
        ctx.req.headers.accept !== 'application/json' &&
        ctx.accepts('json', signedIntrospection) === signedIntrospection,
      origin: ctx.get('origin') || undefined,
      connection: edge.proofsOf(ctx),
      uri,
      audiences: acceptsEndpointAudiences ? [issuer, ...endpointUris] : [issuer],
      endpointUris,
      now: Math.floor(now() / 1000),
    })
    answer(ctx, name, outcome, facts, options)
  } catch (error) {
    fail(ctx, error, facts, events)
  }
}

function answer(
  ctx: Context,
  name: EndpointName,
  { client, account, proven, result, nonce, reports = [] }: Outcome,
  request: Facts,
  { issuer, events }: TokenRouteOptions,
): void {
  const facts = { ...request, client: client?.clientId, account }
  const binding = bindingLabel(client)
  for (const each of reports) report(each, facts, { binding, proven }, events)
  if (nonce !== undefined) ctx.set('dpop-nonce', nonce)
  const origin = ctx.get('origin')
  if (origin && client && !client.mayBeCalledFrom(origin)) {
    ctx.remove('access-control-allow-origin')
  }
  if (!isRefusal(result)) {
    ctx.status = 200
    ctx.body = result.body
    if (result.type) ctx.type = result.type
    // An empty body has none; koa says text/plain.
    if (result.body === '') ctx.remove('content-type')
    return
  }
  refuseRequest(ctx, result, issuer)
  events.refused(facts, { endpoint: labels[name], binding, proven, ...refusalForOperators(result) })
}

function refuseRequest(ctx: Context, refusal: Refusal, issuer: string): void {
  const { status } = refusals[refusal.refused]
  const body = refusalBody(refusal)
  ctx.status = status
  ctx.body = body
  // RFC 6749 section 5.2: a client that has tried Basic gets the challenge.
  if (status === 401 && ctx.get('authorization')) {
    const fields = { realm: issuer, ...body }
    const quoted = Object.entries(fields).map(([key, value]) => `${key}="${value}"`)
    ctx.set('www-authenticate', `Basic ${quoted.join(', ')}`)
  }
}

function report(reported: Report, facts: Facts, shown: ShownKeys, events: Events): void {
  switch (reported.event) {
    case 'tokens issued':
      events.tokensIssued(facts, { grantType: reported.grantType, ...shown })
      break
    case 'clock skew':
      events.clockSkewSeen(reported.seconds)
      break
    case 'grant ended':
      events.familyEnded(
        { ...facts, account: reported.accountId },
        {
          grant: reported.grantId,
          family: reported.family,
          credential: reported.credential,
          cause: reported.cause,
        },
      )
      break
    case 'certificate untrusted':
      events.clientCertificateUntrusted(facts, reported.reason)
      break
    case 'key changed': {
      const { step, ...keys } = reported.change
      if (step === 'named') events.successorNamed(facts, keys)
      else events.rebound(facts, keys)
    }
  }
}

function bindingLabel(client: TokenClient | undefined): BindingLabel {
  if (!client) return 'unknown'
  return client.binding === 'bearer' ? 'bearer' : client.binding.method
}

/** What nobody has foreseen. The database that is away is foreseen. */
function fail(ctx: Context, error: unknown, facts: Facts, events: Events): void {
  if (error instanceof DatabaseUnavailableError) {
    events.databaseUnavailable(facts, error)
    ctx.status = error.status
    ctx.body = { error: error.error, error_description: error.error_description }
    return
  }
  events.failed(facts, error)
  ctx.status = 500
  ctx.body = { error: 'server_error', error_description: 'something went wrong here' }
}
