import test from 'ava'
import {
  askForCode,
  deviceEnvironment,
  deviceGrant,
  redeem,
  television,
} from '../support/device-flow.ts'
import { createPerson, newKey, obtainCode, post } from '../support/flow.ts'
import { initialToken, register } from '../support/registration.ts'
import { publicClient, useTestServer } from '../support/server.ts'

const off = useTestServer(test, { HOLDFAST_REGISTRATION: 'on' })
const on = useTestServer(test, { HOLDFAST_REGISTRATION: 'on', ...deviceEnvironment })

const device = {
  client_name: 'Television',
  grant_types: [deviceGrant],
  response_types: [],
  token_endpoint_auth_method: 'none',
}

test('it is off by default: no endpoints, and the metadata names none', async (t) => {
  const response = await fetch(`${off.issuer}/.well-known/openid-configuration`)
  const metadata = (await response.json()) as Record<string, string[]>
  t.false('device_authorization_endpoint' in metadata)
  t.false(metadata.grant_types_supported?.includes(deviceGrant))
  const client = await off.addClient()
  t.is((await askForCode(off, client, { key: await newKey() })).status, 404)
  t.is((await fetch(`${off.issuer}/device`)).status, 404)
  const { body } = await redeem(off, client, 'code', { key: await newKey() })
  t.is(body.error, 'unsupported_grant_type')
})

test('where it is off nobody is registered for it, and is told why', async (t) => {
  const expected = { message: /device_code needs HOLDFAST_DEVICE_FLOW=on/ }
  await t.throwsAsync(off.addClient(television), expected)
  const token = await initialToken(off, { grantTypes: [deviceGrant] })
  const { status, body } = await register(off, { token, key: await newKey(), body: device })
  t.is(status, 400)
  t.is(body.error, 'invalid_client_metadata')
  t.regex(body.error_description, expected.message)
})

test('another grant that is not known is not blamed on it', async (t) => {
  const asked = { ...television, grant_types: ['password'] }
  const error = await t.throwsAsync(off.addClient(asked))
  t.notRegex(error?.message ?? '', /HOLDFAST_DEVICE_FLOW/)
})

test('a client that was registered for it while it was on keeps its other grants', async (t) => {
  const grant_types = ['authorization_code', 'refresh_token', deviceGrant]
  const client = await on.addClient({ ...publicClient, grant_types })
  await off.storage.clients.insert(client)
  const key = await newKey()
  const { exchange } = await obtainCode(createPerson(off), client)
  t.is((await post(off, '/token', exchange, { key })).status, 200)
})

test('a client registers itself for it where the policy says so', async (t) => {
  const key = await newKey()
  const token = await initialToken(on, { grantTypes: [deviceGrant] })
  const { status, body } = await register(on, { token, key, body: device })
  t.is(status, 201)
  t.is((await askForCode(on, body, { key })).status, 200)
})

test('a client does not register itself for it where the policy does not say so', async (t) => {
  const token = await initialToken(on)
  const { status, body } = await register(on, { token, key: await newKey(), body: device })
  t.is(status, 400)
  t.is(body.error, 'invalid_client_metadata')
})
