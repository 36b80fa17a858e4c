import { hash, randomBytes } from 'node:crypto'
import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { allow, createDevice, signInAt } from '../support/device.ts'
import { newKey, post } from '../support/flow.ts'
import { authorizationUrl } from '../support/journey.ts'
import { race } from '../support/lock.ts'
import { useTestServer } from '../support/server.ts'
import { trust } from '../support/trust.ts'
import type { UserAgent } from '../support/user-agent.ts'

const server = useTestServer(test, { HOLDFAST_TLS: 'on' })
test.before(() => trust(server))

const callback = 'https://rp.example/callback'
const verifier = randomBytes(32).toString('base64url')
const request = ({ client_id }: ClientMetadata) => ({
  client_id,
  redirect_uri: callback,
  scope: 'openid',
  code_challenge: hash('sha256', verifier, 'base64url'),
})
const addClient = () => server.addClient({ application_type: 'web', redirect_uris: [callback] })
const codeOf = (location: string | undefined) =>
  new URL(location ?? '').searchParams.get('code') ?? ''

async function exchange(client: ClientMetadata, code: string) {
  const parameters = {
    grant_type: 'authorization_code',
    client_id: client.client_id,
    code,
    code_verifier: verifier,
    redirect_uri: callback,
  }
  return post(server, '/token', parameters, { key: await newKey() })
}

/** One browser in which two apps were allowed. */
async function twoApps() {
  const [a, b] = [await addClient(), await addClient()]
  const first = await signInAt(server, request(a))
  await allow(first.consent)
  const { device } = first
  const second = await signInAt(server, { ...request(b), prompt: 'login consent' }, device)
  await allow(second.consent)
  return { a, b, device, offer: second.offer }
}

const authorize = async (agent: UserAgent, client: ClientMetadata) =>
  codeOf((await agent.get(authorizationUrl(server.issuer, request(client)))).location)

test.serial(
  'two apps that are authorized at once in one session both get their tokens',
  async (t) => {
    const [a, b] = [await addClient(), await addClient()]
    const { device, consent } = await signInAt(server, request(a))
    const other = await device.agent.get(authorizationUrl(server.issuer, request(b)))
    const form = await device.agent.get(other.location ?? '')
    const token = /name="token" value="([^"]+)"/.exec(form.text)?.[1] ?? ''
    // Each has a cookie jar as it was, as two tabs would send it.
    const tabs = [
      consent,
      { ...consent, url: other.location ?? '', token, agent: device.agent.copy() },
    ]
    const locations = await race(
      server.databaseUrl,
      'Session',
      tabs.map((tab) => () => allow(tab)),
    )
    const answers = await Promise.all([
      exchange(a, codeOf(locations[0]?.href)),
      exchange(b, codeOf(locations[1]?.href)),
    ])
    t.deepEqual(
      answers.map(({ status }) => status),
      [200, 200],
    )
  },
)

test.serial('a key that is registered during an authorization stays registered', async (t) => {
  const { a, device, offer } = await twoApps()
  const [code] = await race(server.databaseUrl, 'Session', [
    async () => {
      const registered = createDevice(server, device.agent)
      const [answer] = await Promise.all([authorize(device.agent, a), registered.register(offer)])
      return answer
    },
  ])
  t.truthy(code)
  const binding = await server.storage.browserSessions.find(
    (await server.provider.AuthorizationCode.find(code ?? ''))?.sessionUid ?? '',
  )
  t.is(binding?.binding?.method, 'dbsc')
})

test.serial('an app that one tab signs out of does not come back with the other', async (t) => {
  const { a, b, device } = await twoApps()
  const code = await authorize(device.agent, a)
  const page = await device.agent.get(`${server.issuer}/session/end?client_id=${a.client_id}`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)?.[1] ?? ''
  await device.agent.post(`${server.issuer}/session/end/confirm`, { xsrf })
  t.is((await exchange(a, code)).status, 400)
  t.is((await exchange(b, await authorize(device.agent, b))).status, 200)
})

test.serial('a session that ends during a request stays ended', async (t) => {
  const { a, device } = await twoApps()
  const code = await server.provider.AuthorizationCode.find(await authorize(device.agent, a))
  const uid = code?.sessionUid ?? ''
  await race(server.databaseUrl, 'Session', [
    () => Promise.all([authorize(device.agent, a), server.storage.browserSessions.end(uid)]),
  ])
  t.is(await server.storage.browserSessions.find(uid), undefined)
  const next = await device.agent.get(authorizationUrl(server.issuer, request(a)))
  t.regex(next.location ?? '', /\/interaction\//)
})
