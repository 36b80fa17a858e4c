import test from 'ava'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import { keyPurposes } from '../../src/keys/key-purpose.ts'
import { holdfast } from '../support/cli.ts'
import { basic, createPerson, newKey, obtainCode, post, refreshing } from '../support/flow.ts'
import { useFolder } from '../support/folder.ts'
import { type Node, startSecondNode } from '../support/second-node.ts'
import { api, useTestServer } from '../support/server.ts'

const lost = { HOLDFAST_SECRET: 'the secret that nobody has written down' }
const next = { HOLDFAST_SECRET: 'the secret that somebody has written down' }

const cwd = useFolder(test)
const server = useTestServer(test, lost)
let fetchNode = globalThis.fetch

const command = (env: Record<string, string>, ...args: string[]) =>
  holdfast({ cwd, env: { HOLDFAST_TLS: 'off', DATABASE_URL: server.databaseUrl, ...env } }, args)

interface Key {
  readonly kid: string
  readonly state: string
  readonly readable: boolean
}

const keysOf = async (): Promise<Key[]> =>
  JSON.parse((await command(next, 'keys', 'list', '--json')).stdout)

async function keySet(fetch = globalThis.fetch): Promise<JSONWebKeySet> {
  return (await (await fetch(`${server.issuer}/jwks`)).json()) as JSONWebKeySet
}

test.serial(
  'keys that no secret opens are replaced, and what follows is what is said',
  async (t) => {
    const key = await newKey()
    const person = createPerson(server, { fetch: (input, init) => fetchNode(input, init) })
    const client = await server.addClient({
      application_type: 'web',
      redirect_uris: ['https://app.example/callback'],
      token_endpoint_auth_method: 'client_secret_basic',
    })
    const issued = []
    for (const scope of ['openid read', 'openid offline_access read']) {
      const asked = { redirect_uri: 'https://app.example/callback', scope, prompt: 'consent' }
      const { exchange } = await obtainCode(person, client, { ...asked, resource: api })
      const answer = await post(server, '/token', { ...exchange, resource: api }, sender(client))
      t.is(answer.status, 200, JSON.stringify(answer.body))
      issued.push(answer.body)
    }
    const verify = async (token: string, set: JSONWebKeySet) =>
      jwtVerify(token, createLocalJWKSet(set), { issuer: server.issuer })
    for (const { access_token, id_token } of issued) {
      await verify(access_token, await keySet())
      await verify(id_token, await keySet())
    }
    t.is(await signedIn(), true)
    await server.close()

    // Nothing is done by a command that was not meant.
    const asked = await command(next, 'keys', 'reset')
    t.is(asked.code, 2)
    t.is(asked.stdout, '')
    t.regex(
      asked.stderr,
      /^holdfast: .* are rejected, and all users must sign in again.* keys reset --yes\.\n$/,
    )
    t.regex((await command(next, 'keys', 'list')).stderr, /under another secret/)

    const reset = await command(next, 'keys', 'reset', '--yes')
    t.is(reset.stderr, '')
    t.is(reset.code, 0)
    t.regex(reset.stdout, /^All keys are new\. .*\n\n {2}ES256 +\S+\n/)
    t.regex((await command(lost, 'keys', 'list')).stderr, /under another secret/)
    const keys = await keysOf()
    t.is(keys.filter(({ state }) => state === 'retired').length, keyPurposes.length)
    const signing = keys.filter(({ state }) => state === 'signing')
    t.is(signing.length, keyPurposes.length)
    t.true(signing.every(({ readable }) => readable))
    const { stdout } = await command(next, 'audit', '--json')
    const told = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ event, actor }) => event.startsWith('key.') && actor.startsWith('command line of'))
    for (const event of ['key.made', 'key.retired']) {
      t.is(told.filter((row) => row.event === event).length, keyPurposes.length)
    }

    await using node: Node = await startSecondNode(server, next)
    fetchNode = node.fetch
    const set = await keySet(node.fetch)
    for (const { access_token, id_token, refresh_token } of issued) {
      await t.throwsAsync(verify(access_token, set), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
      await t.throwsAsync(verify(id_token, set), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
      const refreshed = await post(
        server,
        '/token',
        { ...refreshing(client, refresh_token), resource: api },
        sender(client),
      )
      t.is(refreshed.status, 200)
      await verify(refreshed.body.access_token, set)
    }
    t.is(await signedIn(), false)

    async function signedIn() {
      const arrived = await person.authorize({
        client_id: client.client_id,
        response_type: 'code',
        redirect_uri: 'https://app.example/callback',
        scope: 'openid',
        prompt: 'none',
        code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
        code_challenge_method: 'S256',
      })
      return arrived.searchParams.has('code')
    }

    function sender(client: ClientMetadata) {
      return { key, headers: basic(client), fetch: fetchNode }
    }
  },
)

test.serial('keys that can be opened are reset as well, and two resets come to one', async (t) => {
  const both = await Promise.all([
    command(next, 'keys', 'reset', '--yes', '--json'),
    command(next, 'keys', 'reset', '--yes', '--json'),
  ])
  for (const { code, stderr, stdout } of both) {
    t.is(stderr, '')
    t.is(code, 0)
    t.is(JSON.parse(stdout).length, keyPurposes.length)
  }
  const signing = (await keysOf()).filter(({ state }) => state !== 'retired')
  t.is(signing.length, keyPurposes.length)
  t.true(signing.every(({ readable }) => readable))
})
