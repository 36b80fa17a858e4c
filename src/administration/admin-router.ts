import Router from '@koa/router'
import type { Context, Next } from 'koa'
import { z } from 'zod'
import { type JsonRequest, readJson } from '../http/json-body.ts'
import { keyPurposes, signingAlgorithms } from '../keys/key-purpose.ts'
import type { Facts } from '../observability/events.ts'
import { requestFacts } from '../observability/request-facts.ts'
import type { RequestedMetadata } from '../provider/client-registration.ts'
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
  after: z.coerce.number().int().min(0).optional(),
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

export interface AdminRouterOptions {
  readonly guard: AdminGuard
  readonly administrationFor: (facts: Facts) => Administration
  /** Writes the audit trail: a change is answered when it stands there. */
  readonly flushAudit: () => Promise<void>
}

/** The admin API. `openapi.json` beside this file describes it, and a test compares the two. */
export function createAdminRouter({
  guard,
  administrationFor,
  flushAudit,
}: AdminRouterOptions): Router {
  const router = new Router({ prefix: '/admin' })
  const read = guard.requiredScopes('admin:read')
  const write = guard.requiredScopes('admin:write')

  const by = (ctx: Context) =>
    administrationFor({
      ...requestFacts(ctx),
      actor: `client ${ctx.state.auth.claims.client_id}`,
    })

  async function audited(_ctx: Context, next: Next) {
    await next()
    await flushAudit()
  }

  const changing = [write, audited] as const

  router.use(answerAdminErrors(), guard)

  router.get('/clients', read, async (ctx) => {
    ctx.body = (await by(ctx).clients.list()).map((client) => client.metadata)
  })
  router.post('/clients', ...changing, async (ctx) => {
    const requested = await bodyOf(ctx, metadata)
    ctx.body = await by(ctx).clients.add(requested as RequestedMetadata)
    ctx.status = 201
  })
  router.get('/clients/:client_id', read, async (ctx) => {
    ctx.body = await by(ctx).clients.show(parameter(ctx, 'client_id'))
  })
  router.put('/clients/:client_id', ...changing, async (ctx) => {
    const requested = (await bodyOf(ctx, metadata)) as RequestedMetadata
    ctx.body = await by(ctx).clients.change(parameter(ctx, 'client_id'), requested)
  })
  router.post('/clients/:client_id/secret', ...changing, async (ctx) => {
    ctx.body = await by(ctx).clients.renewSecret(parameter(ctx, 'client_id'))
  })
  router.delete('/clients/:client_id', ...changing, async (ctx) => {
    await by(ctx).clients.remove(parameter(ctx, 'client_id'))
    ctx.status = 204
  })

  router.get('/accounts', read, async (ctx) => {
    ctx.body = await by(ctx).accounts.list()
  })
  router.post('/accounts', ...changing, async (ctx) => {
    ctx.body = await by(ctx).accounts.add(await bodyOf(ctx, newAccount))
    ctx.status = 201
  })
  router.post('/accounts/:email/disable', ...changing, async (ctx) => {
    await by(ctx).accounts.disable(parameter(ctx, 'email'))
    ctx.status = 204
  })
  router.post('/accounts/:email/enable', ...changing, async (ctx) => {
    await by(ctx).accounts.enable(parameter(ctx, 'email'))
    ctx.status = 204
  })
  router.post('/accounts/:email/sign-out', ...changing, async (ctx) => {
    const { tokens } = await bodyOf(ctx, signOut)
    ctx.body = await by(ctx).accounts.signOut(parameter(ctx, 'email'), { tokens })
  })
  router.put('/accounts/:email/password', ...changing, async (ctx) => {
    const { password } = await bodyOf(ctx, newPassword)
    ctx.body = await by(ctx).accounts.setPassword(parameter(ctx, 'email'), password)
  })

  router.get('/registration-tokens', read, async (ctx) => {
    ctx.body = await by(ctx).registrationTokens.list()
  })
  router.post('/registration-tokens', ...changing, async (ctx) => {
    ctx.body = await by(ctx).registrationTokens.add((await readJson(ctx)) as NewRegistrationToken)
    ctx.status = 201
  })
  router.delete('/registration-tokens/:id', ...changing, async (ctx) => {
    await by(ctx).registrationTokens.remove(parameter(ctx, 'id'))
    ctx.status = 204
  })

  router.get('/resources', read, async (ctx) => {
    ctx.body = await by(ctx).resources.list()
  })
  router.post('/resources', ...changing, async (ctx) => {
    ctx.body = await by(ctx).resources.add(await bodyOf(ctx, newResource))
    ctx.status = 201
  })
  router.delete('/resources/:identifier', ...changing, async (ctx) => {
    await by(ctx).resources.remove(parameter(ctx, 'identifier'))
    ctx.status = 204
  })

  router.get('/sessions', read, async (ctx) => {
    const { account: email } = sessionQuery.parse(ctx.query)
    ctx.body = await by(ctx).sessions.list({ email })
  })
  router.delete('/sessions/:id', ...changing, async (ctx) => {
    await by(ctx).sessions.end(parameter(ctx, 'id'))
    ctx.status = 204
  })

  router.get('/grants', read, async (ctx) => {
    const { account: email, client } = grantQuery.parse(ctx.query)
    ctx.body = await by(ctx).grants.list({ email, client })
  })
  router.delete('/grants/:id', ...changing, async (ctx) => {
    await by(ctx).grants.revoke(parameter(ctx, 'id'))
    ctx.status = 204
  })

  router.get('/keys', read, async (ctx) => {
    ctx.body = await by(ctx).keys.list()
  })
  router.post('/keys/rotate', ...changing, async (ctx) => {
    const { purposes = keyPurposes } = await bodyOf(ctx, rotation)
    ctx.body = await by(ctx).keys.rotate(purposes)
  })
  router.post('/keys/:kid/retire', ...changing, async (ctx) => {
    const { now } = await bodyOf(ctx, retirement)
    ctx.body = await by(ctx).keys.retire(parameter(ctx, 'kid'), { now })
  })

  router.get('/audit', read, async (ctx) => {
    ctx.body = await by(ctx).audit.list(auditQuery.parse(ctx.query))
  })

  return router
}

async function bodyOf<Schema extends z.ZodType>(
  request: JsonRequest,
  schema: Schema,
): Promise<z.output<Schema>> {
  return schema.parse(await readJson(request))
}

function parameter({ params }: { params: Record<string, string> }, name: string): string {
  return params[name] ?? ''
}
