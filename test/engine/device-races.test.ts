import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import type { KeyPair } from '../../src/doctor/proof.ts'
import {
  approve,
  askForCode,
  deviceEnvironment,
  redeem,
  television,
  typeCode,
} from '../support/device-flow.ts'
import { createPerson, newKey, type Person, post, refreshing } from '../support/flow.ts'
import { race } from '../support/lock.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'

const environment = {
  ...deviceEnvironment,
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
}
const server = useTestServer(test, environment)
let other: Node
let client: ClientMetadata
let bearer: ClientMetadata
let key: KeyPair

test.before(async () => {
  other = await startSecondNode(server, environment)
  client = await server.addClient(television)
  bearer = await server.addClient({ ...television, binding_method: 'bearer' })
  key = await newKey()
})

test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

const nodes = () => [{ fetch: globalThis.fetch }, { fetch: other.fetch }]

async function ask(who = client) {
  const { body } = await askForCode(server, who, { key })
  return body as { device_code: string; user_code: string }
}

function outcomes(answers: { status: number; body: { error?: string } }[]) {
  const losers = answers.filter(({ status }) => status !== 200)
  return {
    won: answers.length - losers.length,
    lost: [...new Set(losers.map(({ body }) => body.error))],
  }
}

/** Somebody who has the page in front of them on which the code is to be compared. */
async function atConfirmation(userCode: string, fetch: typeof globalThis.fetch) {
  const person = createPerson(server, { fetch })
  return { person, confirm: await typeCode(server, person, userCode) }
}

const sayYes = ({ browser }: Person, confirm: Awaited<ReturnType<typeof typeCode>>) =>
  browser.submit(confirm, 'Continue', { confirm: 'yes' })

test.serial(
  'sixteen redemptions at once at two nodes: one success, and it keeps its tokens',
  async (t) => {
    const { device_code, user_code } = await ask()
    await approve(server, createPerson(server), user_code)
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, at) =>
        redeem(server, client, device_code, { key, ...nodes()[at % 2] }),
      ),
    )
    t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  },
)

test.serial('redemptions that have both found the code: one success', async (t) => {
  const { device_code, user_code } = await ask()
  await approve(server, createPerson(server), user_code)
  const answers = await race(
    server.databaseUrl,
    'DeviceCode',
    nodes().map((by) => () => redeem(server, client, device_code, { key, ...by })),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const next = await post(server, '/token', refreshing(client, refresh_token), { key })
  t.is(next.status, 200)
})

test.serial('a code of bearer tokens that was raced for ends what was issued', async (t) => {
  const { body } = await askForCode(server, bearer)
  await approve(server, createPerson(server), body.user_code)
  const answers = await race(
    server.databaseUrl,
    'DeviceCode',
    nodes().map((by) => () => redeem(server, bearer, body.device_code, by)),
  )
  t.deepEqual(outcomes(answers), { won: 1, lost: ['invalid_grant'] })
  const { refresh_token } = answers.find(({ status }) => status === 200)?.body ?? {}
  const next = await post(server, '/token', refreshing(bearer, refresh_token))
  t.is(next.body.error, 'invalid_grant')
})

test.serial('two people go on with one code: one of them', async (t) => {
  const { user_code } = await ask()
  const people = await Promise.all(nodes().map(({ fetch }) => atConfirmation(user_code, fetch)))
  const pages = await race(
    server.databaseUrl,
    'DeviceCode',
    people.map(
      ({ person, confirm }) =>
        () =>
          sayYes(person, confirm),
    ),
  )
  t.deepEqual(
    pages.map(({ html }) => (/>Sign in</.test(html) ? 'goes on' : 'used already')).sort(),
    ['goes on', 'used already'],
  )
})

test.serial('one says yes and another no: what came first, and never both', async (t) => {
  const { device_code, user_code } = await ask()
  const [one, two] = await Promise.all(nodes().map(({ fetch }) => atConfirmation(user_code, fetch)))
  if (!one || !two) return t.fail()
  const [yes, no] = await race(server.databaseUrl, 'DeviceCode', [
    () => sayYes(one.person, one.confirm),
    () => two.person.browser.submit(two.confirm, 'This was not me', { abort: 'yes' }),
  ])
  const goesOn = /Sign in/.test(yes?.html ?? '')
  t.is(/not connected/.test(no?.html ?? ''), !goesOn)
  const { body } = await redeem(server, client, device_code, { key })
  t.is(body.error, goesOn ? 'authorization_pending' : 'access_denied')
})

test.serial('questions at once, at two nodes, are too many', async (t) => {
  const { device_code } = await ask()
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, at) =>
      redeem(server, client, device_code, { key, ...nodes()[at % 2] }),
    ),
  )
  const count = (name: string) => answers.filter(({ body }) => body.error === name).length
  t.true(count('authorization_pending') >= 1)
  t.true(count('slow_down') >= 4)
  t.is(count('authorization_pending') + count('slow_down'), 8)
})

test.serial('what one node has issued is decided and redeemed at another', async (t) => {
  const { body } = await askForCode(server, client, { key, fetch: other.fetch })
  await approve(server, createPerson(server), body.user_code)
  const answer = await redeem(server, client, body.device_code, { key, fetch: other.fetch })
  t.is(answer.status, 200)
})
