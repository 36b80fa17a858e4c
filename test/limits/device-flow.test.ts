import test from 'ava'
import type { ClientMetadata } from 'oidc-provider'
import { askForCode, television, typeCode } from '../support/device-flow.ts'
import { createPerson, newKey } from '../support/flow.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { useTestServer } from '../support/server.ts'

const environment = {
  HOLDFAST_SECRET: 'a secret of two nodes, which is long enough',
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_DEVICE_LIMIT: '4',
  HOLDFAST_USER_CODE_LIMIT: '4',
}
const server = useTestServer(test, environment)
let other: Node
let client: ClientMetadata

test.before(async () => {
  other = await startSecondNode(server, environment)
  client = await server.addClient(television)
})
test.after.always('closes the other node', () => other?.[Symbol.asyncDispose]())

test.serial('limits guesses of user codes on all nodes and in all browsers', async (t) => {
  const { body } = await askForCode(server, client, { key: await newKey() })
  for (const fetch of [globalThis.fetch, other.fetch]) {
    const person = createPerson(server, { fetch })
    t.is((await typeCode(server, person, 'BBBB-BBBB')).status, 400)
    t.is((await typeCode(server, person, 'CCCC-CCCC')).status, 400)
    const third = await typeCode(server, person, 'DDDD-DDDD')
    t.is(third.status, 429)
    t.regex(third.html, /Too many incorrect codes/)
  }
  for (const fetch of [globalThis.fetch, other.fetch]) {
    // Nor is the right one told from a wrong one any more.
    const page = await typeCode(server, createPerson(server, { fetch }), body.user_code)
    t.is(page.status, 429)
    t.notRegex(page.html, /Living room/)
  }
  await server.flushAudit()
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /holdfast_rate_limited_total\{limit="user_codes_session"\} [1-9]/)
  t.regex(metrics, /holdfast_rate_limited_total\{limit="user_codes"\} [1-9]/)
})

test.serial('one network gets so many device codes in a minute, from all nodes', async (t) => {
  const key = await newKey()
  const answers = []
  for (const { fetch } of [globalThis, other, globalThis, other, globalThis, other]) {
    answers.push(await askForCode(server, client, { key, fetch }))
  }
  t.is(answers[0]?.status, 200)
  for (const { status, headers, body } of answers.slice(-2)) {
    t.is(status, 429)
    t.is(body.error, 'temporarily_unavailable')
    t.true(Number(headers.get('retry-after')) > 0)
  }
})
