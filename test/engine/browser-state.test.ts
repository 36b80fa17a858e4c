/*
 * What the engine's models do within a request: what travels with a browser, and what of it counts.
 * There is no HTTP and no database; the tests share the context of the engine, and run one after the
 * other.
 */
import { randomBytes } from 'node:crypto'
import test from 'ava'
import Provider from 'oidc-provider'
import { backchannel } from '../../src/engine/backchannel-requests.ts'
import { artifactsOfRequest, browserRequest } from '../../src/engine/browser-request.ts'
import { keepStateInBrowsers } from '../../src/engine/browser-state.ts'
import { bindDeviceCodes } from '../../src/engine/device-codes.ts'
import { bindSessions } from '../../src/engine/session-model.ts'
import { checkTokenBindingAtUserinfo } from '../../src/engine/token-binding/userinfo.ts'
import { AlreadyConsumedError } from '../../src/storage/already-consumed.ts'

const now = 1_800_000_000

type Jar = Record<string, string>

/** A request of a browser with these cookies, which is the engine's until the next one. */
function request(jar: Jar = {}, route = 'authorization', query: object = {}) {
  const cookies = {
    get: (name: string) => jar[name],
    set: (name: string, value: string) => {
      jar[name] = value
    },
  }
  const cookie = Object.entries(jar)
    .map(([name, value]) => `${name}=${value}`)
    .join('; ')
  const oidc = { route, cookies, entities: {} as Record<string, object>, entity: () => {} }
  const ctx = {
    state: {},
    req: { headers: { cookie } },
    res: { getHeaders: () => ({}) },
    cookies,
    query,
    oidc,
  }
  Object.defineProperty(Provider, 'ctx', { value: ctx, configurable: true })
  return ctx
}

/** What is used of the models of an engine. */
interface Model {
  save(ttl: number): Promise<string>
  destroy(): Promise<void>
  [member: string]: unknown
}
interface ModelClass {
  new (state?: object): Model
  find(uid: string): Promise<Model | undefined>
  get(ctx: object): Promise<Model>
}

function makeEngine({
  opens = true,
  admits = true,
  failure,
}: Partial<Record<'opens' | 'admits', boolean>> & { failure?: Error } = {}) {
  const rows: string[] = []
  const asked: object[] = []
  class Base {
    adapter = {
      consume: async () => {
        if (failure) throw failure
      },
    }
    constructor(state: object = {}) {
      Object.assign(this, state)
    }
    static IN_PAYLOAD = []
    static async find() {
      return undefined
    }
    async save() {
      rows.push((this as { uid?: string }).uid ?? '')
      return 'row'
    }
    async destroy() {}
    async getValueAndPayload() {
      const { adapter: _, ...payload } = this
      return { payload }
    }
  }
  const engine = {
    cookieName: (name: string) => name,
    Interaction: class extends Base {} as unknown as ModelClass,
    Session: class extends Base {} as unknown as ModelClass,
    interactionDetails: async (_request?: object) => 'of a row' as unknown,
    interactionResult: async () => 'of a row',
    createContext: (given: object) => given,
  }
  keepStateInBrowsers(
    engine as never,
    {
      keys: () => [Buffer.alloc(32, 1)],
      times: {
        engineNowS: () => now,
        now: () => now * 1000,
        aheadS: () => 0,
        toEngine: (state: object) => state,
        toDatabase: (state: object) => state,
      },
      requests: {
        find: async (query: object) => {
          asked.push(query)
          return { session: undefined }
        },
      },
      additions: { keepInInteraction: () => ({}), opensInteraction: () => opens },
      sessionPath: '/',
      interactionPath: (uid: string) => `/interaction/${uid}`,
      admitRow: async () => admits,
    } as never,
  )
  return { engine, rows, asked }
}

const interaction = {
  uid: 'u',
  jti: 'u',
  exp: now + 600,
  returnTo: 'https://id.example/auth/u',
  params: { client_id: 'app' },
}
const ofPerson = { ...interaction, session: { uid: 's', accountId: 'ada', cookie: 'c' } }

/** The cookies of a browser in which an interaction was begun. */
async function begun(state: object, made = makeEngine()): Promise<Jar> {
  const jar: Jar = {}
  request(jar)
  await new made.engine.Interaction(state).save(600)
  return jar
}

test.serial('keeps an interaction in the browser, without the cookie of its session', async (t) => {
  const made = makeEngine()
  const { Interaction } = made.engine
  request(await begun(ofPerson, made))
  t.like(await Interaction.find('u'), { params: { client_id: 'app' }, session: { uid: 's' } })
  t.is(
    (
      (await Interaction.find('u')) as unknown as {
        session: { cookie?: string }
      }
    ).session.cookie,
    undefined,
  )
  t.is(await Interaction.find('other'), undefined)
  t.deepEqual(made.rows, [])
  t.is(await made.engine.interactionDetails(request()), 'of a row')
  t.not(
    await made.engine.interactionDetails(
      request({ interaction: 'u', ...(await begun(interaction)) }),
    ),
    'of a row',
  )
})

test.serial('rejects an interaction that the request does not open', async (t) => {
  const jar = await begun(interaction)
  request(jar)
  t.is(await makeEngine({ opens: false }).engine.Interaction.find('u'), undefined)
})

test.serial('rejects a second use of an interaction but for its consent', async (t) => {
  const jar = await begun({ ...ofPerson, result: { login: { accountId: 'ada' } } })
  const find = async (route: string) => {
    const ctx = request(jar, route)
    browserRequest(ctx as never).found = { interaction: { consumedAt: now } } as never
    return makeEngine().engine.Interaction.find('u')
  }
  t.is(await find('authorization'), undefined)
  for (const route of ['resume', 'device_resume']) {
    t.deepEqual((await find(route))?.result, {}, route)
  }
})

test.serial(
  'writes a row for state that no cookie can hold, if the network may have one',
  async (t) => {
    const large = { ...interaction, params: { state: randomBytes(4000).toString('base64') } }
    const made = makeEngine()
    const jar = await begun(large, made)
    t.deepEqual([made.rows, jar], [['u'], {}])
    await t.throwsAsync(begun(large, makeEngine({ admits: false })), {
      message: 'temporarily_unavailable',
    })
  },
)

test.serial(
  'ends an interaction of a row once, and says so when the database is away',
  async (t) => {
    const end = (failure: Error) => {
      request()
      return new (makeEngine({ failure }).engine.Interaction)(interaction).destroy()
    }
    await t.notThrowsAsync(end(new AlreadyConsumedError('Interaction')))
    await t.throwsAsync(end(new Error('away')), { message: 'away' })
  },
)

test.serial('asks the database for what the cookies name, and for nothing else', async (t) => {
  const ask = async (jar: Jar, route?: string, query?: object) => {
    const { engine, asked } = makeEngine()
    await engine.Session.get(request(jar, route, query))
    return asked
  }
  const [stranger, person] = [await begun(interaction), await begun(ofPerson)]
  t.deepEqual(await ask({}), [])
  t.deepEqual(await ask({ resume: 'u', ...stranger }, 'resume'), [])
  t.deepEqual(await ask({ resume: 'u', ...person }), [])
  const both = { resume: 'u', session: 'id' }
  t.like(await ask({ ...both, ...person }, 'resume'), [
    { interaction: { kind: 'Interaction' }, clientId: 'app' },
  ])
  t.like(await ask({ ...both, ...stranger }, 'resume'), [{ interaction: undefined }])
  t.like(await ask({ session: 'id' }, 'authorization', { client_id: 'app' }), [{ clientId: 'app' }])
  t.like(await ask({ session: 'id' }, 'authorization', { client_id: 'a\0' }), [
    { clientId: undefined },
  ])
})

test.serial(
  'keeps the session of a stranger in its cookie, and rejects what is too long',
  async (t) => {
    const { engine, rows, asked } = makeEngine()
    const jar: Jar = {}
    request(jar)
    const session = new engine.Session({ state: { secret: 'x' } })
    await session.save(600)
    t.regex(jar.session ?? '', /^s\./)
    t.like(await engine.Session.get(request(jar)), { state: { secret: 'x' } })
    t.deepEqual(asked, [])
    session.state = { secret: randomBytes(4000).toString('base64') }
    await t.throwsAsync(session.save(600), { message: 'invalid_request' })
    t.deepEqual(rows, [])
    session.accountId = 'ada'
    await session.save(600)
    t.is(rows.length, 1)
  },
)

test.serial(
  'finds the grant of a request once, and writes nothing else before its session',
  (t) => {
    const ctx = request()
    const grant = { accountId: 'ada' }
    browserRequest(ctx as never).found = { grantId: 'g', grant } as never
    const artifacts = artifactsOfRequest()
    t.deepEqual(artifacts?.find('Grant', 'g'), [grant] as never)
    t.is(artifacts?.find('AccessToken', 'g'), undefined)
    t.is(artifacts?.find('Grant', 'other'), undefined)
    t.false(artifacts?.write({ kind: 'Grant' } as never, undefined as never))
    const session = (id: string) => ({ kind: 'Session', id: Buffer.from(id) })
    for (const id of ['a', 'a', 'b']) {
      t.true(artifacts?.write(session(id) as never, undefined as never))
    }
    t.deepEqual(browserRequest(ctx as never).written, [session('a'), session('b')] as never)
  },
)

test.serial('rejects at userinfo a token of another Token Binding', async (t) => {
  const find = async (provided: string | undefined, route = 'userinfo') => {
    const engine = {
      AccessToken: class {
        readonly kind = 'AccessToken'
        static async find(): Promise<object> {
          return { tbh: 'mine' }
        }
      },
    }
    const proof = provided === undefined ? undefined : { provided: { tbh: provided } }
    checkTokenBindingAtUserinfo(engine as never, () => proof as never)
    request({}, route)
    return engine.AccessToken.find()
  }
  t.deepEqual(await find('mine'), { tbh: 'mine' })
  t.deepEqual(await find(undefined, 'introspection'), { tbh: 'mine' })
  await t.throwsAsync(find('other'), { message: 'invalid_token' })
  await t.throwsAsync(find(undefined), { message: 'invalid_token' })
})

/** A request by a client of bearer tokens, and the events that it has caused. */
function requestOfClient(route: string) {
  const events: string[] = []
  const ctx = request({}, route)
  Object.assign(ctx.oidc, { params: {}, client: { binding_method: 'bearer' } })
  Object.assign(ctx.req, { rawHeaders: [] })
  Object.assign(ctx, { app: { emit: (name: string) => events.push(name) } })
  return events
}
const edge = { proofsOf: () => ({}) }

test.serial(
  'keeps no account of a backchannel request to nobody, and rejects too many',
  async (t) => {
    const save = async (accountId: string, refusal?: string) => {
      const engine = {
        BackchannelAuthenticationRequest: class {
          accountId?: string
          uid?: string
          static IN_PAYLOAD = []
          async save() {}
        },
        use: () => {},
      }
      const backchannelLimits = { admit: async () => refusal }
      const times = { now: () => now * 1000 }
      const options = { edge, times, keys: {}, backchannelLimits }
      backchannel.extend?.(engine as never, options as never)
      requestOfClient('backchannel_authentication')
      const made = new engine.BackchannelAuthenticationRequest()
      made.accountId = accountId
      await made.save()
      return [made.accountId, made.uid]
    }
    t.deepEqual(await save('ada'), ['ada', 'ada'])
    t.deepEqual(await save('nobody x'), [undefined, undefined])
    await t.throwsAsync(save('ada', 'client'), { message: 'temporarily_unavailable' })
  },
)

test.serial('says of a device code what has become of it', async (t) => {
  const save = async (route: string, state: object, failure?: Error) => {
    const engine = {
      DeviceCode: class {
        static IN_PAYLOAD = []
        async save() {
          if (failure) throw failure
        }
      },
    }
    bindDeviceCodes(engine as never, { edge, now: () => now * 1000 } as never)
    const events = requestOfClient(route)
    await Object.assign(new engine.DeviceCode(), state).save()
    return events
  }
  const taken = new AlreadyConsumedError('DeviceCode')
  t.deepEqual(await save('device_authorization', {}), ['device_code.issued'])
  t.deepEqual(await save('device_resume', { accountId: 'ada' }), ['device_code.approved'])
  t.deepEqual(await save('device_resume', { error: 'access_denied' }), ['device_code.denied'])
  t.deepEqual(await save('device_resume', { error: 'server_error' }), [])
  t.deepEqual(await save('code_verification', {}), [])
  await t.throwsAsync(save('device_authorization', {}, taken), {
    message: 'temporarily_unavailable',
  })
  await t.throwsAsync(save('device_resume', {}, taken), { message: 'code has already been used' })
})

test.serial('signs nobody in twice by one sign-in and the consent that followed it', (t) => {
  const login = (account: string, Interaction?: object) => {
    const logins: string[] = []
    class Session {
      accountId = 'ada'
      loginAccount({ accountId }: { accountId: string }) {
        logins.push(accountId)
      }
    }
    const engine = { Session }
    bindSessions(engine as never, { additions: { keepInSession: () => ({}) } } as never)
    request().oidc.entities = Interaction ? { Interaction } : {}
    new engine.Session().loginAccount({ accountId: account })
    return logins
  }
  const after = (accountId: string, result: object = { consent: {} }) => ({
    result,
    lastSubmission: { login: { accountId } },
  })
  t.deepEqual(login('ada'), ['ada'])
  t.deepEqual(login('ada', after('ada')), [])
  t.deepEqual(login('bob', after('bob')), ['bob'])
  t.deepEqual(login('ada', after('ada', { login: {} })), ['ada'])
})
