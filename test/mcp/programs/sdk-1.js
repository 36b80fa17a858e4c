/** An agent by @modelcontextprotocol/sdk 1, which has to be given DPoP. Its argument is an address. */
import { createHash, randomUUID } from 'node:crypto'
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { agentProvider, authorizeInBrowser, report } from './person.js'

const { privateKey, publicKey } = await generateKeyPair('ES256')
const jwk = await exportJWK(publicKey)
const nonces = new Map()

function proof(method, url, token) {
  const { origin, pathname } = new URL(url)
  const nonce = nonces.get(origin)
  const ath = token && createHash('sha256').update(token).digest('base64url')
  return new SignJWT({
    jti: randomUUID(),
    htm: method,
    htu: origin + pathname,
    ...(ath && { ath }),
    ...(nonce && { nonce }),
  })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk })
    .setIssuedAt()
    .sign(privateKey)
}

/** `fetch` with a proof beside each token, and at the token endpoint (RFC 9449). */
async function fetchWithProof(input, init = {}) {
  const url = String(input)
  const headers = new Headers(init.headers)
  const token = headers.get('authorization')?.replace(/^Bearer /, '')
  const isToken = init.body instanceof URLSearchParams && init.body.has('grant_type')
  if (!token && !isToken) return fetch(url, init)
  const send = async () => {
    headers.set('dpop', await proof(init.method ?? 'GET', url, token))
    if (token) headers.set('authorization', `DPoP ${token}`)
    const response = await fetch(url, { ...init, headers })
    const nonce = response.headers.get('dpop-nonce')
    if (nonce) nonces.set(new URL(url).origin, nonce)
    return { response, nonce }
  }
  const { response, nonce } = await send()
  const isChallenged = nonce && (response.status === 401 || response.status === 400)
  return isChallenged ? (await send()).response : response
}

const provider = agentProvider()
const address = new URL(process.argv.at(-1))
const options = { authProvider: provider, fetch: fetchWithProof }
const connect = () => {
  const transport = new StreamableHTTPClientTransport(address, options)
  const client = new Client({ name: 'agent', version: '1.0.0' })
  return { transport, client, done: client.connect(transport) }
}

let { transport, client, done } = connect()
try {
  await done
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error
  const back = await authorizeInBrowser(provider.kept.authorization)
  await transport.finishAuth(back.get('code'))
  const again = connect()
  client = again.client
  await again.done
}
const { tools } = await client.listTools()
report(provider, await client.callTool({ name: tools[0].name, arguments: {} }))
