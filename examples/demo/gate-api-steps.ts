import { generateKeyPair } from 'jose'
import { makeProof } from '../../src/doctor/proof.ts'
import { directly } from './gate-connection-steps.ts'
import type { Part } from './gate-fixtures.ts'

/**
 * A program calls the API through the gate, and a thief has its token and what it has sent.
 *
 * @returns a request that was used, for the thief to repeat.
 */
export async function attackApi({ fixtures, runner }: Part): Promise<() => Promise<Response>> {
  const { issuer, origins, gateFetch, stock, applicationPorts } = fixtures
  const { owner, thief } = runner
  const url = `${origins.orders}/orders`
  const key = await generateKeyPair('ES256', { extractable: true })
  const thiefKey = await generateKeyPair('ES256', { extractable: true })
  runner.section('An API behind the gate, with a DPoP token')
  let accessToken = ''
  await owner('a program gets a token for the API', 'accept', async () => {
    const response = await fetch(`${issuer}/token`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${btoa(`${stock.clientId}:${stock.secret}`)}`,
        dpop: await makeProof(key, { method: 'POST', url: `${issuer}/token` }),
      },
      body: new URLSearchParams({
        ...{ grant_type: 'client_credentials', scope: 'read', resource: origins.orders },
      }),
    })
    accessToken = ((await response.clone().json()) as { access_token?: string }).access_token ?? ''
    return response
  })
  const proof = (changes: { method?: string; url?: string } = {}, by = key) =>
    makeProof(by, { method: 'GET', url, accessToken, ...changes })
  const call = (dpop: string | undefined, { method = 'GET', to = url, scheme = 'DPoP' } = {}) =>
    gateFetch(to, {
      method,
      headers: { authorization: `${scheme} ${accessToken}`, ...(dpop && { dpop }) },
    })
  const used = await proof()
  await owner('call the API', 'accept', () => call(used))
  await owner('a path that needs a scope that the token lacks', 'reject', async () => {
    const to = `${origins.orders}/admin`
    return call(await proof({ url: to }), { to })
  })
  await thief('the token alone, as Bearer', () => call(undefined, { scheme: 'Bearer' }))
  await thief('the token without a proof', () => call(undefined))
  await thief("the token, and a proof by the thief's key", async () =>
    call(await proof({}, thiefKey)),
  )
  await thief('the token and a proof, replayed', () => call(used))
  await thief('an unused proof of another method', async () =>
    call(await proof({ method: 'POST' })),
  )
  await thief('an unused proof of another URL', async () => call(await proof({ url: `${url}/7` })))
  await thief('an unused proof, at another application of the gate', async () =>
    call(await proof(), { to: `${origins.reports}/orders` }),
  )
  await thief('token and unused proof, sent past the gate', async () =>
    directly(applicationPorts.orders, {
      headers: [`Authorization: DPoP ${accessToken}`, `DPoP: ${await proof()}`],
      target: '/orders',
    }),
  )
  const last = await proof()
  await owner('all the while: call the API', 'accept', () => call(last))
  return () => call(last)
}
