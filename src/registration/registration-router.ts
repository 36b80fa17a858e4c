import { VerifyError } from '@holdfast/verify'
import { answerTo } from '@holdfast/verify/authorization-server'
import Router, { type RouterContext } from '@koa/router'
import { RegistrationError } from '../clients/client-registration.ts'
import { JsonBodyError, readJson } from '../http/json-body.ts'
import { publicRoutes } from '../http/routes.ts'
import type { Events } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { RegistrationTable, StoredRegistration } from '../storage/registration-table.ts'
import { registrationReason } from './refusal-reason.ts'
import {
  type PresentedCredential,
  type RegistrationCredentials,
  unknownToken,
} from './registration-credential.ts'
import type { ClientInformation, RegistrationRequest, Registrations } from './registrations.ts'

export const registrationPath = publicRoutes.register.path

export interface RegistrationRouterOptions {
  readonly issuer: string
  readonly credentials: RegistrationCredentials
  readonly registrations: Registrations
  readonly table: Pick<RegistrationTable, 'find' | 'findInitialToken'>
  readonly events: Pick<Events, 'rateLimited' | 'recordChange' | 'refused'>
  /**
   * Counts a registration without an initial access token: seconds to wait where the network of an
   * address has used up its share. Undefined where a token is needed.
   */
  readonly takeOpen: ((address: string) => Promise<number | undefined>) | undefined
}

/**
 * The client registration endpoint (RFC 7591 section 3) and the client configuration endpoints
 * (RFC 7592 section 2). The engine has these too: it takes bearer tokens only, shows what is stored
 * of a client's secret, and writes in several steps what has to become true at once.
 */
export function createRegistrationRouter({
  issuer,
  credentials,
  registrations,
  table,
  events,
  takeOpen,
}: RegistrationRouterOptions): Router {
  const router = new Router({ sensitive: true, strict: true })

  /** Everything that is refused goes to the operator, and to the client in the form it expects. */
  async function refusing(
    ctx: RouterContext,
    handle: (presented: PresentedCredential) => Promise<void>,
    handleOpen?: () => Promise<void>,
  ): Promise<void> {
    ctx.set({ 'cache-control': 'no-store', pragma: 'no-cache', ...readable })
    let presented: PresentedCredential | undefined
    try {
      if (handleOpen && ctx.req.headers.authorization === undefined) return await handleOpen()
      presented = credentials.read({
        method: ctx.method,
        uri: issuer + ctx.path,
        rawHeaders: ctx.req.rawHeaders,
      })
      await handle(presented)
    } catch (error) {
      if (error instanceof VerifyError) {
        const challenged = credentials.challenge(error, presented?.scheme)
        report(ctx, error.error ?? 'invalid_token', error)
        const { status, headers } = answerTo(challenged)
        ctx.status = status
        ctx.set(headers)
        ctx.body = { error: error.error ?? 'invalid_token', error_description: error.message }
      } else if (error instanceof RegistrationError || error instanceof JsonBodyError) {
        const code = error instanceof RegistrationError ? error.code : 'invalid_client_metadata'
        report(ctx, code, error)
        ctx.status = error instanceof JsonBodyError ? error.status : 400
        ctx.body = { error: code, error_description: error.message }
      } else throw error
    }
  }

  function report(ctx: RouterContext, error: string, refusal: Error): void {
    events.refused(requestFacts(ctx), {
      endpoint: 'registration',
      error,
      reason: registrationReason(refusal),
      binding: 'unknown',
      detail: refusal.message,
    })
  }

  /** The registration that the credential of a request is for, its key proven. */
  async function registrationOf(
    { params }: RouterContext,
    presented: PresentedCredential,
  ): Promise<StoredRegistration> {
    const found = await table.find(params.client_id ?? '', presented.token)
    if (!found) throw unknownToken()
    await credentials.confirm(presented, { bearer: found.jkt === null, jkt: found.jkt })
    return found
  }

  /** RFC 7592 section 3. */
  function respond(ctx: RouterContext, information: ClientInformation, token: string): void {
    ctx.body = {
      ...information,
      registration_client_uri: `${issuer}${registrationPath}/${information.client_id}`,
      registration_access_token: token,
    }
  }

  // A script shows a token for all that it does here, and no cookie counts: any origin may.
  const preflights = {
    POST: publicRoutes.register.path,
    'GET,PUT,DELETE': publicRoutes.registration_read.path,
  }
  for (const [methods, path] of Object.entries(preflights)) {
    router.options(path, (ctx) => {
      ctx.status = 204
      ctx.set({ ...preflight, 'access-control-allow-methods': methods })
    })
  }

  /** Of a client that nobody has invited. */
  async function registerOpen(
    ctx: RouterContext,
    take: NonNullable<typeof takeOpen>,
  ): Promise<void> {
    const request = await readRequest(ctx)
    const waitS = await take(ctx.state.address)
    const information = waitS === undefined ? await registrations.registerOpen(request) : undefined
    if (information) {
      ctx.body = information
      ctx.status = 201
      changed(ctx, 'client.added', information, { open: true })
      return
    }
    events.rateLimited(requestFacts(ctx), 'open_registration')
    ctx.set('retry-after', String(waitS ?? 60))
    ctx.status = 429
    ctx.body = {
      error: 'too_many_requests',
      error_description: 'too many clients were registered without a token: try again later',
    }
  }

  router.post(publicRoutes.register.path, (ctx) => {
    const open = takeOpen && (() => registerOpen(ctx, takeOpen))
    return refusing(ctx, (presented) => register(ctx, presented), open)
  })

  async function register(ctx: RouterContext, presented: PresentedCredential): Promise<void> {
    const initial = await table.findInitialToken(presented.token)
    if (!initial) throw unknownToken()
    const jkt = await credentials.confirm(presented, initial)
    const { policy, id, name } = initial
    const registered = await registrations.register(
      await readRequest(ctx),
      { policy, token: presented.token },
      jkt,
    )
    if (!registered) throw unknownToken()
    const { information, token } = registered
    respond(ctx, information, token)
    ctx.status = 201
    changed(ctx, 'client.added', information, { initial_access_token: { id, name } })
  }

  router.get(publicRoutes.registration_read.path, (ctx) =>
    refusing(ctx, async (presented) => {
      const registration = await registrationOf(ctx, presented)
      respond(ctx, registrations.read(registration), presented.token)
    }),
  )

  router.put(publicRoutes.registration_update.path, (ctx) =>
    refusing(ctx, async (presented) => {
      const registration = await registrationOf(ctx, presented)
      const request = await readRequest(ctx)
      const information = await registrations.update(request, registration, presented.token)
      if (!information) throw unknownToken()
      respond(ctx, information, presented.token)
      changed(ctx, 'client.changed', information)
    }),
  )

  router.delete(publicRoutes.registration_remove.path, (ctx) =>
    refusing(ctx, async (presented) => {
      const registration = await registrationOf(ctx, presented)
      await registrations.remove(registration)
      ctx.status = 204
      changed(ctx, 'client.removed', registrations.read(registration))
    }),
  )

  function changed(
    ctx: RouterContext,
    change: 'client.added' | 'client.changed' | 'client.removed',
    information: ClientInformation,
    details: Record<string, unknown> = {},
  ): void {
    const { client_id, client_secret, binding_method: binding } = information
    const isRenewed = change === 'client.changed' && client_secret !== undefined
    events.recordChange(
      { ...requestFacts(ctx), client: String(client_id), actor: 'dynamic registration' },
      change,
      { binding, ...(isRenewed && { new_secret: true }), ...details },
    )
  }

  return router
}

/** What scripts of every origin may read (Fetch standard, CORS protocol); never with credentials. */
const readable = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'DPoP-Nonce,WWW-Authenticate',
}

const preflight = {
  'access-control-allow-origin': '*',
  'access-control-allow-headers': 'authorization,content-type,dpop',
  'access-control-max-age': '3600',
}

async function readRequest(ctx: RouterContext): Promise<RegistrationRequest> {
  const body = await readJson(ctx)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new JsonBodyError('Expected a JSON object.')
  }
  return body as RegistrationRequest
}
