import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { newKey, post } from '../support/flow.ts'
import { authorizationUrl } from '../support/journey.ts'
import { useTestServer } from '../support/server.ts'
import { createUserAgent, type Page } from '../support/user-agent.ts'

const server = useTestServer(test, { HOLDFAST_DEVICE_FLOW: 'on' })
const callback = 'https://rp.example/callback'
let client: ClientMetadata
test.before(async () => {
  client = await server.addClient({ application_type: 'web', redirect_uris: [callback] })
})

const ask = (parameters: Record<string, string> = {}, { client_id } = client): Promise<Page> =>
  createUserAgent(server.issuer).get(
    authorizationUrl(server.issuer, {
      client_id,
      redirect_uri: callback,
      scope: 'openid',
      ...parameters,
    }),
  )
const errorOf = ({ location }: Page) => {
  const { origin, searchParams } = new URL(location ?? 'about:blank')
  return [origin, searchParams.get('error')]
}

test('accepts parameters of 2 KB', async (t) => {
  const page = await ask({ state: 's'.repeat(2048), nonce: 'n'.repeat(2048) })
  t.regex(page.location ?? '', /\/interaction\//)
})

for (const name of ['state', 'nonce', 'login_hint', 'acr_values', 'ui_locales']) {
  test(`returns invalid_request when ${name} is longer than 2 KB`, async (t) => {
    const page = await ask({ [name]: 'x'.repeat(2049) })
    t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
  })
}

test('returns invalid_request when claims are longer than 2 KB', async (t) => {
  const page = await ask({ claims: JSON.stringify({ id_token: { ['x'.repeat(2048)]: null } }) })
  t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
})

test('returns invalid_request when all parameters are longer than 8 KB', async (t) => {
  const long = 'x'.repeat(2000)
  const names = ['nonce', 'login_hint', 'acr_values', 'ui_locales', 'claims_locales']
  const page = await ask(Object.fromEntries(names.map((name) => [name, long])))
  t.deepEqual(errorOf(page), ['https://rp.example', 'invalid_request'])
})

test('redirects no long parameter to an address that is not registered', async (t) => {
  const redirect_uri = 'https://evil.example/callback'
  const page = await ask({ redirect_uri, state: 'x'.repeat(2049) })
  t.is(page.status, 400)
  t.is(page.location, undefined)
})

/** Parameters that mean nothing, of so many bytes together. */
const filled = (bytes: number) =>
  Object.fromEntries(
    Array.from({ length: Math.ceil(bytes / 1000) }, (_, at) => [`x${at}`, 'x'.repeat(1000)]),
  )

for (const [title, parameters, status] of [
  [
    'returns invalid_request from /par when a parameter is longer than 2 KB',
    { state: 'x'.repeat(2049) },
    400,
  ],
  [
    'returns invalid_request from /par when all parameters are longer than 16 KB',
    filled(16_300),
    400,
  ],
  ['accepts parameters of 14 KB at /par', filled(14_000), 201],
] as const) {
  test.serial(title, async (t) => {
    const answer = await post(server, '/par', {
      client_id: client.client_id,
      response_type: 'code',
      redirect_uri: callback,
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
      ...parameters,
    })
    t.is(answer.status, status)
    t.is(answer.body.error, status === 400 ? 'invalid_request' : undefined)
    t.regex(answer.body.error_description ?? 'longer than', /longer than/)
  })
}

test('returns invalid_request from /device_authorization when a parameter is longer than 2 KB', async (t) => {
  const { client_id } = await server.addClient({
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  })
  const parameters = { client_id, scope: 'openid', nonce: 'x'.repeat(2049) }
  const answer = await post(server, '/device_authorization', parameters, { key: await newKey() })
  t.deepEqual([answer.status, answer.body.error], [400, 'invalid_request'])
})

test('returns invalid_request when the state of a sign-out fits into no cookie', async (t) => {
  const state = crypto.getRandomValues(Buffer.alloc(4500)).toString('base64url')
  const agent = createUserAgent(server.issuer)
  const page = await agent.get(`${server.issuer}/session/end?state=${state}`)
  t.is(page.status, 400)
  t.true(page.text.includes('invalid_request'))
})

test.serial('limits the rows of requests that no cookie can hold', async (t) => {
  const random = () => crypto.getRandomValues(Buffer.alloc(1500)).toString('base64url')
  const large = () => ask({ state: random(), nonce: random() })
  t.regex((await large()).location ?? '', /\/interaction\//)
  const answers = await Promise.all(Array.from({ length: 62 }, large))
  const refused = answers.filter((page) => errorOf(page)[1] === 'temporarily_unavailable')
  t.true(refused.length >= 2)
  const small = await ask()
  t.regex(small.location ?? '', /\/interaction\//)
})

for (const [title, parameters, error] of [
  ['nobody is signed in for prompt=none', { prompt: 'none' }, 'login_required'],
  ['it asks for an unknown prompt', { prompt: 'unknown' }, 'invalid_request'],
] as const) {
  test(`shows an error page to a self-registered client when ${title}`, async (t) => {
    const client_id = `stranger-${error}`
    const stranger = { ...client, client_id, self_registered: true } as const
    await server.storage.clients.insert(stranger)
    const page = await ask(parameters, stranger)
    t.is(page.status, 400)
    t.is(page.location, undefined)
    t.true(page.text.includes(error))
    t.deepEqual(errorOf(await ask(parameters)), ['https://rp.example', error])
  })
}
