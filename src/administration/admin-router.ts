import type { Context, Middleware } from 'koa'
import { z } from 'zod'
import type { RequestedMetadata } from '../clients/client-registration.ts'
import { signingAlgorithms } from '../config/signing-algorithms.ts'
import { type JsonRequest, readJson } from '../http/json-body.ts'
import { type AdminRouteName, adminRoutes, type RouteName } from '../http/routes.ts'
import { matchedRoute } from '../http/routing.ts'
import { keyPurposes } from '../keys/key-purpose.ts'
import type { Facts } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import { isStorable } from '../storage/text.ts'
import { answerAdminErrors } from './admin-errors.ts'
import type { AdminGuard } from './admin-guard.ts'
import type { Administration } from './administration.ts'
import { readTime } from './audit.ts'
import type { NewRegistrationToken } from './registration-tokens.ts'

const newAccount = z.strictObject({
  email: z.string(),
  name: z.string().optional(),
  password: z.string().optional(),
})
const newPassword = z.strictObject({ password: z.string().optional() })
/** Whether tokens end as well, those that outlive a session among them. */
const signOut = z.strictObject({ tokens: z.boolean().default(false) })
const newResource = z.strictObject({
  identifier: z.string(),
  name: z.string().nullable().default(null),
  scopes: z.array(z.string()),
  signingAlg: z.enum(signingAlgorithms).default('ES256'),
})
const rotation = z.strictObject({ purposes: z.array(z.enum(keyPurposes)).min(1).optional() })
/** Whether what the key signed is refused from now on, or the key ends in its time. */
const retirement = z.strictObject({ now: z.boolean().default(false) })
const metadata = z.record(z.string(), z.unknown())
const word = z.string().refine(isStorable, 'has a character that no text may have')
/** Whoever mistypes a filter is not to be shown everything. */
const sessionQuery = z.strictObject({ account: word.optional() })
const grantQuery = z.strictObject({ account: word.optional(), client: word.optional() })
const auditQuery = z.strictObject({
  after: z
    .string()
    .regex(/^\d+$/, 'must be the id of an audit event')
    .transform(Number)
    .refine(Number.isSafeInteger, `must be at most ${Number.MAX_SAFE_INTEGER}`)
    .optional(),
  since: z
    .string()
    .transform(readTime)
    .refine((time) => time !== undefined, 'must be a time such as 2026-01-31T12:00:00Z')
    .optional(),
  event: word.optional(),
  account: word.optional(),
  client: word.optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})
const countedQuery = auditQuery.omit({ after: true, account: true })

export interface AdminRouterOptions {
  readonly guard: AdminGuard
  readonly administrationFor: (facts: Facts) => Administration
  /** Writes the audit trail: a change is answered when it stands there. */
  readonly flushAudit: () => Promise<void>
}

type Handler = (administration: Administration, ctx: AdminContext) => Promise<void>

/** What a handler may see of a request. */
interface AdminContext extends JsonRequest {
  status: number
  body: unknown
  readonly query: unknown
  readonly state: Context['state']
}

/** One for each admin route of the table, where its scope is. */
const handlers: Readonly<Record<AdminRouteName, Handler>> = {
  async listClients({ clients }, ctx) {
    ctx.body = (await clients.list()).map((client) => client.metadata)
  },
  async addClient({ clients }, ctx) {
    ctx.body = await clients.add((await bodyOf(ctx, metadata)) as RequestedMetadata)
    ctx.status = 201
  },
  async showClient({ clients }, ctx) {
    ctx.body = await clients.show(parameter(ctx, 'client_id'))
  },
  async changeClient({ clients }, ctx) {
    const requested = (await bodyOf(ctx, metadata)) as RequestedMetadata
    ctx.body = await clients.change(parameter(ctx, 'client_id'), requested)
  },
  async renewClientSecret({ clients }, ctx) {
    ctx.body = await clients.renewSecret(parameter(ctx, 'client_id'))
  },
  async removeClient({ clients }, ctx) {
    await clients.remove(parameter(ctx, 'client_id'))
    ctx.status = 204
  },

  async listAccounts({ accounts }, ctx) {
    ctx.body = await accounts.list()
  },
  async addAccount({ accounts }, ctx) {
    ctx.body = await accounts.add(await bodyOf(ctx, newAccount))
    ctx.status = 201
  },
  async disableAccount({ accounts }, ctx) {
    await accounts.disable(parameter(ctx, 'email'))
    ctx.status = 204
  },
  async enableAccount({ accounts }, ctx) {
    await accounts.enable(parameter(ctx, 'email'))
    ctx.status = 204
  },
  async signAccountOut({ accounts }, ctx) {
    const { tokens } = await bodyOf(ctx, signOut)
    ctx.body = await accounts.signOut(parameter(ctx, 'email'), { tokens })
  },
  async setPassword({ accounts }, ctx) {
    const { password } = await bodyOf(ctx, newPassword)
    ctx.body = await accounts.setPassword(parameter(ctx, 'email'), password)
  },

  async listRegistrationTokens({ registrationTokens }, ctx) {
    ctx.body = await registrationTokens.list()
  },
  async addRegistrationToken({ registrationTokens }, ctx) {
    ctx.body = await registrationTokens.add((await readJson(ctx)) as NewRegistrationToken)
    ctx.status = 201
  },
  async removeRegistrationToken({ registrationTokens }, ctx) {
    await registrationTokens.remove(parameter(ctx, 'id'))
    ctx.status = 204
  },

  async listResources({ resources }, ctx) {
    ctx.body = await resources.list()
  },
  async addResource({ resources }, ctx) {
    ctx.body = await resources.add(await bodyOf(ctx, newResource))
    ctx.status = 201
  },
  async removeResource({ resources }, ctx) {
    await resources.remove(parameter(ctx, 'identifier'))
    ctx.status = 204
  },

  async listSessions({ sessions }, ctx) {
    const { account: email } = sessionQuery.parse(ctx.query)
    ctx.body = await sessions.list({ email })
  },
  async endSession({ sessions }, ctx) {
    await sessions.end(parameter(ctx, 'id'))
    ctx.status = 204
  },

  async listGrants({ grants }, ctx) {
    const { account: email, client } = grantQuery.parse(ctx.query)
    ctx.body = await grants.list({ email, client })
  },
  async revokeGrant({ grants }, ctx) {
    await grants.revoke(parameter(ctx, 'id'))
    ctx.status = 204
  },

  async listKeys({ keys }, ctx) {
    ctx.body = await keys.list()
  },
  async rotateKeys({ keys }, ctx) {
    const { purposes = keyPurposes } = await bodyOf(ctx, rotation)
    ctx.body = await keys.rotate(purposes)
  },
  async retireKey({ keys }, ctx) {
    const { now } = await bodyOf(ctx, retirement)
    ctx.body = await keys.retire(parameter(ctx, 'kid'), { now })
  },

  async listCountedEvents({ countedEvents }, ctx) {
    ctx.body = await countedEvents.list(countedQuery.parse(ctx.query))
  },
  async listAudit({ audit }, ctx) {
    ctx.body = await audit.list(auditQuery.parse(ctx.query))
  },
}

/**
 * The admin API: every route of the table `adminRoutes`, behind the guard and its scope. There is no
 * other way to add one. `openapi.json` beside this file describes them, and a test compares the two.
 */
export function createAdminRouter({
  guard,
  administrationFor,
  flushAudit,
}: AdminRouterOptions): Middleware {
  const errors = answerAdminErrors()
  const scopes = {
    'admin:read': guard.requiredScopes('admin:read'),
    'admin:write': guard.requiredScopes('admin:write'),
  }

  return (ctx, next) => {
    const name = matchedRoute(ctx)?.name
    if (name === undefined || !isAdminRoute(name)) return next()
    const { scope } = adminRoutes[name]
    const handle = async () => {
      const actor = `client ${ctx.state.auth.claims.client_id}`
      await handlers[name](administrationFor({ ...requestFacts(ctx), actor }), ctx)
      // A change is answered when the audit trail has it.
      if (scope === 'admin:write') await flushAudit()
    }
    return errors(ctx, () => guard(ctx, () => scopes[scope](ctx, handle)))
  }
}

function isAdminRoute(name: RouteName): name is AdminRouteName {
  return Object.hasOwn(adminRoutes, name)
}

async function bodyOf<Schema extends z.ZodType>(
  request: JsonRequest,
  schema: Schema,
): Promise<z.output<Schema>> {
  return schema.parse(await readJson(request))
}

function parameter(ctx: AdminContext, name: string): string {
  return matchedRoute(ctx)?.params[name] ?? ''
}
