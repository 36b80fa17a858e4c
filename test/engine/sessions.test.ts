/* When the engine's sessions count, and what is written of them, without HTTP and without a database. */
import test from 'ava'
import { interactionPolicy } from 'oidc-provider'
import { boundSessionAcr, passkeyAcr, passwordAcr } from '../../src/accounts/acr.ts'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import { canMeet } from '../../src/engine/authentication-context.ts'
import { browserRequest } from '../../src/engine/browser-request.ts'
import { addSessionClaims } from '../../src/engine/session-claims.ts'
import { bindSessions, isUnproven } from '../../src/engine/session-model.ts'
import { withSessionPolicy } from '../../src/engine/session-policy.ts'
import type { BrowserChange } from '../../src/storage/browser-request-table.ts'

const now = 1_800_000_000
const nowMs = now * 1000
const binding = { method: 'dbsc', jkt: 'key', isNew: false }

interface TestSession {
  accountId?: string
  exp: number
  tbh?: string
  amr?: string[]
  authorizations: Record<string, object>
  save(ttl: number): Promise<string>
}

/** A session as the engine has it after a request has named it, with changes to its row. */
async function open(
  row: object = {},
  {
    provenAt,
    opens = true,
    outcome = 'committed',
  }: { provenAt?: number; opens?: boolean; outcome?: string } = {},
) {
  const changes: BrowserChange[] = []
  let saved = 0
  class Session {
    accountId? = 'ada'
    uid = 'session'
    exp = now + 3600
    static async get() {
      return new this()
    }
    async save() {
      saved += 1
      return ''
    }
  }
  const engine = { Session: Session as unknown as { get(ctx: object): Promise<TestSession> } }
  bindSessions(
    engine as never,
    {
      requests: {
        commit: async (change: BrowserChange) => {
          changes.push(change)
          return { outcome, isNewSession: false }
        },
      },
      times: { engineNowS: () => now, now: () => nowMs, aheadS: () => 0 },
      additions: { opensSession: async () => opens },
      provenAt: () => provenAt,
    } as never,
  )
  const ctx = { state: {}, get: () => '' }
  const browserSession = {
    uid: 'session',
    accountId: 'ada',
    authorizations: { app: { grantId: 'grant' } },
    signedInAt: new Date(nowMs),
    binding: null,
    ...row,
  }
  browserRequest(ctx).found = { browserSession } as never
  const session = await engine.Session.get(ctx)
  return { session, ctx, changes, saves: () => saved }
}

/** Whether a request may use the session that its cookie names: it is a new one otherwise. */
async function isOpened(...parameters: Parameters<typeof open>): Promise<boolean> {
  const { session } = await open(...parameters)
  return session.authorizations !== undefined
}

test('rejects a session whose row, key or Token Binding is not what the request shows', async (t) => {
  t.true(await isOpened())
  t.true(await isOpened({ binding }, { provenAt: nowMs }))
  t.true(await isOpened({ binding: { ...binding, isNew: true } }))
  t.false(await isOpened({ accountId: 'bob' }))
  t.false(await isOpened({ binding }))
  t.false(await isOpened({}, { opens: false }))
})

test('takes a session for unproven when its key has no proof', (t) => {
  const unproven = (bound: object | null, provenAt?: number) =>
    isUnproven({ session: { binding: bound }, provenAt } as never)
  t.true(unproven(binding))
  t.false(unproven(binding, nowMs))
  t.false(unproven({ ...binding, isNew: true }))
  t.false(unproven(null))
})

test('writes of a session what a request has changed, and nothing else', async (t) => {
  const same = await open()
  await same.session.save(3600)
  t.deepEqual([same.changes, same.saves()], [[], 0])
  const empty = await open()
  empty.session.authorizations.other = {}
  await empty.session.save(3600)
  t.deepEqual(empty.changes, [])
  const more = await open()
  more.session.authorizations.other = { grantId: 'more' }
  await more.session.save(3600)
  t.like(more.changes, [{ session: { authorized: { other: { grantId: 'more' } }, withdrawn: [] } }])
  t.deepEqual(Object.keys(more.changes[0]?.session?.authorized ?? {}), ['other'])
  const less = await open()
  delete less.session.authorizations.app
  await less.session.save(3600)
  t.like(less.changes, [{ session: { authorized: {}, withdrawn: ['app'] } }])
})

test('rejects a second use of a pushed request', async (t) => {
  const { session } = await open({}, { outcome: 'request consumed' })
  session.authorizations = {}
  await t.throwsAsync(session.save(3600), { message: 'invalid_request_uri' })
})

const policy = withSessionPolicy(interactionPolicy.base(), {
  now: () => nowMs,
  groupDemands: () => [],
})

/** What a check of a prompt says of a session. */
function ask(
  prompt: 'login' | 'proof',
  name: string,
  { session, ctx }: { session: TestSession | undefined; ctx: { state: object } },
  { rules = {}, ...oidc }: { rules?: object; [member: string]: unknown } = {},
) {
  const check = policy.get(prompt)?.checks.get(name)
  return check?.check({
    ...ctx,
    oidc: { session, client: { session_policy: rules }, prompts: new Set(), params: {}, ...oidc },
  } as never)
}

const minute = { unbound: { max_age: 60 } }
const signedIn = { result: { login: { accountId: 'ada' } } }

test('asks for a sign-in where a session without a key is too old for the client', async (t) => {
  const isTooOld = async (
    row: object,
    more: Parameters<typeof ask>[3] = {},
    session: object = {},
  ) => {
    const opened = await open(row, { provenAt: nowMs })
    Object.assign(opened.session, session)
    return ask('login', 'unbound_session', opened, { rules: minute, ...more })
  }
  const old = { signedInAt: new Date(nowMs - 60_000) }
  t.true(await isTooOld(old))
  t.false(await isTooOld({ signedInAt: new Date(nowMs - 59_999) }))
  t.false(await isTooOld({ ...old, binding }))
  t.false(await isTooOld(old, {}, { tbh: 'key' }))
  t.false(await isTooOld(old, signedIn))
  t.false(ask('login', 'unbound_session', { session: undefined, ctx: { state: {} } }) as boolean)
  const silent = { prompts: new Set(['none']), rules: { unbound: { prompt_none: false } } }
  t.true(await isTooOld({}, silent))
  t.false(await isTooOld({}, { ...silent, rules: {} }))
})

test('asks for another sign-in, or for a key, where the acr must be another', async (t) => {
  const wanting = (value: string) => ({ claims: { id_token: { acr: { essential: true, value } } } })
  const asks = async (
    name: 'acr_needs_sign_in' | 'acr_needs_key',
    row: object,
    more: Parameters<typeof ask>[3],
  ) => {
    const opened = await open(row)
    opened.session.amr = ['pwd']
    return ask(name === 'acr_needs_key' ? 'proof' : 'login', name, opened, more)
  }
  const needsSignIn = (value: string, row: object = {}, more: object = {}) =>
    asks('acr_needs_sign_in', row, { ...wanting(value), ...more })
  const registering = { binding: { ...binding, isNew: true } }
  t.true(await needsSignIn(passkeyAcr))
  t.false(await needsSignIn(passkeyAcr, {}, signedIn))
  t.false(await needsSignIn(passwordAcr))
  t.true(await needsSignIn(boundSessionAcr))
  t.false(await needsSignIn(boundSessionAcr, registering))
  t.true(await needsSignIn(passkeyAcr, registering))
  t.true(await asks('acr_needs_key', {}, wanting(boundSessionAcr)))
  t.false(await asks('acr_needs_key', {}, wanting(passwordAcr)))
  await t.throwsAsync(asks('acr_needs_key', {}, wanting(passkeyAcr)))
})

test('asks for a proof where the last one is too old for the client', async (t) => {
  const isTooOld = async (provenAt: number, row: object = { binding }) =>
    ask('proof', 'proof_too_old', await open(row, { provenAt }), { rules: { proof_max_age: 10 } })
  t.false(await isTooOld(nowMs - 10_000))
  t.true(await isTooOld(nowMs - 10_001))
  t.false(await isTooOld(nowMs - 10_001, {}))
})

test('knows which sign-ins can meet what a request asks for', (t) => {
  const claims = JSON.stringify({ id_token: { acr: { essential: true, value: passkeyAcr } } })
  t.true(canMeet(['pwd'], {}, undefined, []))
  t.true(canMeet(['pwd'], { acr_values: passkeyAcr }, undefined, []))
  t.false(canMeet(['pwd'], { claims }, undefined, []))
  t.false(canMeet(['pwd'], {}, { required_acr: passkeyAcr }, []))
  t.true(canMeet(['pwd'], {}, { required_acr: boundSessionAcr }, []))
  t.false(canMeet(['pwd'], {}, undefined, [boundSessionAcr, passkeyAcr]))
})

test('puts into an ID token of the front channel what its client and session say', async (t) => {
  const issued = async (metadata: object, sessionUid?: string) => {
    const set: Record<string, unknown> = {}
    class IdToken {
      available = {}
      scope?: string
      ctx = {
        oidc: {
          client: { metadata: () => metadata },
          grant: { getOIDCScopeFiltered: () => 'openid email' },
          entities: { AuthorizationCode: { sessionUid } },
        },
      }
      set(name: string, value: unknown) {
        set[name] = value
      }
      async issue() {
        return this.scope
      }
    }
    const engine = { IdToken }
    addSessionClaims(
      engine as never,
      {
        sessions: { find: async () => ({ uid: 'session', binding }) },
        times: { engineNowS: () => now, aheadS: () => 0 },
        additions: { confirmIdToken: () => ({}) },
      } as never,
    )
    const token = new engine.IdToken() as unknown as {
      issue(context: object): Promise<string | undefined>
    }
    const scope = await token.issue({ use: 'idtoken' })
    const { iat: _, ...claims } = set
    return { scope, claims }
  }
  t.deepEqual(await issued({}), { scope: undefined, claims: {} })
  t.like(await issued({ id_token_claims: true }), { scope: 'openid email' })
  t.like(await issued({}, 'session'), {
    claims: { [sessionBindingName]: 'dbsc', cnf: { jkt: 'key' }, dbsc_session: 'session' },
  })
})
