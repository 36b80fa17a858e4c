import type { Context, Middleware } from 'koa'
import { type JsonRequest, readJson } from '../http/json-body.ts'
import { type AdminRouteName, adminRoutes, type RouteName } from '../http/routes.ts'
import { matchedRoute } from '../http/routing.ts'
import type { Facts } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import { answerAdminErrors } from './admin-errors.ts'
import type { AdminGuard } from './admin-guard.ts'
import type { Administration } from './administration.ts'
import { createOpenapiDocument } from './openapi.ts'
import type { Input, Operation } from './operation.ts'
import { operations } from './operations.ts'
import { noQuery } from './requests.ts'

export interface AdminRouterOptions {
  readonly issuer: string
  readonly guard: AdminGuard
  readonly administrationFor: (context: Facts) => Administration
  /** Writes the audit trail: a change is answered when it stands there. */
  readonly flushAudit: () => Promise<void>
}

/**
 * The admin API: every route of the table `adminRoutes`, behind the guard and its scope, as its
 * entry in `operations` says. There is no other way to add one.
 */
export function createAdminRouter({
  issuer,
  guard,
  administrationFor,
  flushAudit,
}: AdminRouterOptions): Middleware {
  const errors = answerAdminErrors()
  const scopes = {
    'admin:read': guard.requiredScopes('admin:read'),
    'admin:write': guard.requiredScopes('admin:write'),
  }
  let made: object | undefined
  const document = () => {
    made ??= createOpenapiDocument(issuer, operations)
    return made
  }

  return (ctx, next) => {
    const name = matchedRoute(ctx)?.name
    if (name === undefined || !isAdminRoute(name)) return next()
    const { scope } = adminRoutes[name]
    const { answer, ...operation } = operations[name]
    const handle = async () => {
      const actor = `client ${ctx.state.auth.claims.client_id}`
      const administration = administrationFor({ ...requestFacts(ctx), actor })
      const body = await operation.handle(administration, await inputOf(ctx, operation), document)
      // A change is answered when the audit trail has it.
      if (scope === 'admin:write') await flushAudit()
      ctx.status = answer.status
      if (answer.status !== 204) ctx.body = body
    }
    return errors(ctx, () => guard(ctx, () => scopes[scope](ctx, handle)))
  }
}

function isAdminRoute(name: RouteName): name is AdminRouteName {
  return Object.hasOwn(adminRoutes, name)
}

/** What of a request is structural, so that its schemas alone say what comes through. */
interface AdminRequest extends JsonRequest {
  readonly query: unknown
  readonly state: Context['state']
}

async function inputOf(
  ctx: AdminRequest,
  { query = noQuery, body }: Pick<Operation, 'query' | 'body'>,
): Promise<Input<string, unknown, Record<string, unknown>>> {
  return {
    params: matchedRoute(ctx)?.params ?? {},
    query: query.parse(ctx.query),
    body: body?.parse(await readJson(ctx)),
  }
}
