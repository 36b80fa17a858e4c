import anyTest, { type TestFn } from 'ava'
import { DatabaseUnavailableError } from '../../src/storage/database-unavailable.ts'
import {
  authorizationUrl,
  begin,
  type IdentityProvider,
  ordersClient,
  startIdentityProvider,
} from '../support/journey.ts'
import { createUserAgent, type UserAgent } from '../support/user-agent.ts'

const test = anyTest as TestFn<{ idp: IdentityProvider; agent: UserAgent }>

test.before(async (t) => {
  t.context.idp = await startIdentityProvider([ordersClient])
  t.context.agent = createUserAgent(t.context.idp.origin)
})
test.after.always((t) => t.context.idp?.close())

test('shows a page for an unknown address', async (t) => {
  const { status, headers, text } = await t.context.agent.get('/nowhere')
  t.is(status, 404)
  t.is(headers.get('cache-control'), 'no-store')
  t.true(text.includes('<title>Error: There is no such page – Holdfast</title>'))
  t.true(text.includes(headers.get('x-request-id') ?? 'no request id'))
})

test('a program gets the same as JSON', async (t) => {
  const { status, text } = await t.context.agent.get('/nowhere', { accept: 'application/json' })
  t.is(status, 404)
  t.is(JSON.parse(text).error, 'not_found')
})

test('an error of the authorization request is explained with its code', async (t) => {
  const url = authorizationUrl(t.context.idp.origin, { redirect_uri: 'https://evil.example/<b>' })
  const { status, text, location } = await t.context.agent.get(url)
  t.is(status, 400)
  t.is(location, undefined)
  t.true(text.includes('invalid_redirect_uri'))
})

test('resuming what never began is out of date', async (t) => {
  const { status, text } = await t.context.agent.get('/authorize/unknown')
  t.is(status, 400)
  t.true(text.includes('This page is out of date'))
})

test.serial('an unforeseen error shows a request number and nothing of itself', async (t) => {
  const { idp } = t.context
  const login = await begin(idp)
  const find = idp.provider.Client.find
  idp.provider.Client.find = () => Promise.reject(new Error('secret of the database'))
  const { status, headers, text } = await login.agent.get(login.url)
  idp.provider.Client.find = find
  t.is(status, 500)
  t.true(text.includes('server_error'))
  t.true(text.includes(headers.get('x-request-id') ?? 'no request id'))
  t.false(/secret|\.ts:|node_modules/.test(text))
  t.is((idp.thrown.pop() as Error).message, 'secret of the database')
})

test.serial('a page of ours says when the database is away', async (t) => {
  const { idp } = t.context
  const login = await begin(idp)
  const find = idp.provider.Client.find
  idp.provider.Client.find = () =>
    Promise.reject(new DatabaseUnavailableError(new Error('secret of the database')))
  const { status, text } = await login.agent.get(login.url)
  idp.provider.Client.find = find
  t.is(status, 503)
  t.true(text.includes('temporarily_unavailable'))
  t.false(text.includes('secret'))
  t.true(idp.thrown.pop() instanceof DatabaseUnavailableError)
})

test.serial('an unforeseen error inside the engine reads the same', async (t) => {
  const { idp } = t.context
  const find = idp.provider.Client.find
  idp.provider.Client.find = () => Promise.reject(new Error('secret of the database'))
  const { status, text } = await t.context.agent.get(authorizationUrl(idp.origin))
  idp.provider.Client.find = find
  t.is(status, 500)
  t.true(text.includes('Something broke on our side'))
  t.false(text.includes('secret'))
})
