import { hash, randomBytes } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import { type KeyPair, makeProof } from '../../src/doctor/proof.ts'
import { createBrowser } from '../../test/support/browser.ts'
import { mcpPaths } from './mcp-api.ts'
import type { Runner, SignIn } from './steps.ts'

export interface McpFixtures extends SignIn, AsyncDisposable {
  readonly issuer: string
  readonly audience: string
  /** What tokens for the MCP server name. */
  readonly resource: string
  /** The URL of the agent's document. */
  readonly clientId: string
  /** A document at a thief's host that names the agent's URL. */
  readonly fakeId: string
}

interface Machine {
  readonly key: KeyPair
  accessToken: string
  refreshToken: string
}

/** What an agent on a machine sends, proofs and nonces included. */
function createAgent({ issuer, audience, clientId }: McpFixtures) {
  const tokenEndpoint = `${issuer}/token`
  let nonce: string | undefined

  async function askForTokens(parameters: Record<string, string>, key?: KeyPair) {
    const dpop = key && (await makeProof(key, { method: 'POST', url: tokenEndpoint }))
    return fetch(tokenEndpoint, {
      method: 'POST',
      headers: dpop ? { dpop } : {},
      body: new URLSearchParams({ client_id: clientId, ...parameters }),
    })
  }

  /** A proof with the nonce that the MCP server has handed out last. */
  const proofOf = (
    key: KeyPair,
    accessToken: string,
    changes: { method?: string; path?: string } = {},
  ) =>
    makeProof(key, {
      method: changes.method ?? 'POST',
      url: audience + (changes.path ?? mcpPaths.tools),
      accessToken,
      ...(nonce && { nonce }),
    })

  async function send(accessToken: string, proof?: string, path = mcpPaths.tools) {
    const response = await fetch(audience + path, {
      method: 'POST',
      headers: { authorization: `DPoP ${accessToken}`, ...(proof && { dpop: proof }) },
    })
    nonce = response.headers.get('dpop-nonce') ?? nonce
    return response
  }

  return {
    askForTokens,
    proofOf,
    send,
    refresh: (machine: Pick<Machine, 'refreshToken'>, key?: KeyPair) =>
      askForTokens({ grant_type: 'refresh_token', refresh_token: machine.refreshToken }, key),
    /** Calls with a token and a key; a second time where the server wants another nonce. */
    async call(key: KeyPair, accessToken: string, path: string = mcpPaths.tools) {
      const first = await send(accessToken, await proofOf(key, accessToken, { path }), path)
      const isNonce = /use_dpop_nonce/.test(first.headers.get('www-authenticate') ?? '')
      return isNonce ? send(accessToken, await proofOf(key, accessToken, { path }), path) : first
    },
  }
}

/**
 * Runs the scenario: a person lets an agent in on two machines. It is one client, by its document, and
 * each machine has a key of its own. A thief has its config file, its log and the URL of its stream.
 */
export async function runMcpScenario(
  fixtures: McpFixtures,
  { owner, thief }: Runner,
): Promise<void> {
  const { issuer, audience, resource, clientId, redirectUri } = fixtures
  const agent = createAgent(fixtures)
  const thiefKey = await generateKeyPair('ES256', { extractable: true })
  const browser = createBrowser()

  await owner('metadata of the MCP server, by its address alone', 'accept', () =>
    fetch(`${audience}/.well-known/oauth-protected-resource${mcpPaths.tools}`),
  )
  await owner('metadata of the identity provider', 'accept', () =>
    fetch(`${issuer}/.well-known/oauth-authorization-server`),
  )

  const authorizeUrl = (verifier: string, changes: Record<string, string> = {}) => {
    const url = new URL(`${issuer}/authorize`)
    url.search = String(
      new URLSearchParams({
        client_id: clientId,
        response_type: 'code',
        redirect_uri: redirectUri,
        resource,
        scope: 'openid offline_access mcp:tools',
        prompt: 'consent',
        code_challenge: hash('sha256', verifier, 'base64url'),
        code_challenge_method: 'S256',
        ...changes,
      }),
    )
    return url
  }

  /** The person lets the agent in; what redeems the code is not sent yet. */
  async function allow(key: KeyPair): Promise<Record<string, string>> {
    const verifier = randomBytes(32).toString('base64url')
    // The code is bound as well (RFC 9449 section 10).
    const dpop_jkt = await thumbprint(key)
    let page = await browser.visit(authorizeUrl(verifier, { dpop_jkt }))
    if (page.html.includes('>Sign in<'))
      page = await browser.submit(page, 'Sign in', { ...fixtures })
    const isTold = page.html.includes(new URL(clientId).host) && page.html.includes('127.0.0.1')
    if (!isTold) throw new Error('the page does not say who asks')
    const arrived = await browser.submit(page, 'Allow', {}, { until: redirectUri })
    return {
      grant_type: 'authorization_code',
      code: arrived.url.searchParams.get('code') ?? '',
      code_verifier: verifier,
      redirect_uri: redirectUri,
      resource,
    }
  }

  async function install(name: string): Promise<Machine> {
    const machine = {
      key: await generateKeyPair('ES256', { extractable: true }),
      accessToken: '',
      refreshToken: '',
    }
    await owner(`${name}: allow the agent, code for tokens`, 'accept', async () => {
      const response = await agent.askForTokens(await allow(machine.key), machine.key)
      keep(machine, await response.clone().json())
      return response
    })
    await owner(`${name}: call a tool`, 'accept', () =>
      agent.call(machine.key, machine.accessToken),
    )
    return machine
  }

  const desktop = await install('desktop')
  const laptop = await install('laptop')

  // The config file of the desktop: both of its tokens.
  const { accessToken } = desktop
  await thief('config file: access token as Bearer', () =>
    fetch(resource, { method: 'POST', headers: { authorization: `Bearer ${accessToken}` } }),
  )
  await thief('config file: access token without a proof', () => agent.send(accessToken))
  await thief("config file: access token, thief's key", () => agent.call(thiefKey, accessToken))
  await thief('config file: refresh token without a proof', () => agent.refresh(desktop))
  await thief("config file: refresh token, thief's key", () => agent.refresh(desktop, thiefKey))
  await thief('access token of the desktop, key of the laptop', () =>
    agent.call(laptop.key, accessToken),
  )
  await thief('refresh token of the desktop, key of the laptop', () =>
    agent.refresh(desktop, laptop.key),
  )

  // The log of the desktop: requests with their proofs.
  const usedProof = await agent.proofOf(desktop.key, accessToken)
  await owner('desktop: call a tool again', 'accept', () => agent.send(accessToken, usedProof))
  await thief('log: the same request again', () => agent.send(accessToken, usedProof))
  await thief('log: a proof for another path', async () =>
    agent.send(
      accessToken,
      await agent.proofOf(desktop.key, accessToken, { path: mcpPaths.tickets }),
    ),
  )
  await thief('log: a proof for another method', async () =>
    agent.send(accessToken, await agent.proofOf(desktop.key, accessToken, { method: 'GET' })),
  )
  const redirect = await allow(desktop.key)
  await thief("log: authorization code, thief's key", () => agent.askForTokens(redirect, thiefKey))

  // The URL of a stream.
  const newTicket = async () => {
    const response = await agent.call(desktop.key, accessToken, mcpPaths.tickets)
    return ((await response.json()) as { ticket: string }).ticket
  }
  const open = (ticket: string, path = mcpPaths.stream) =>
    fetch(`${audience}${path}?ticket=${ticket}`)
  const ticket = await newTicket()
  await owner('desktop: open a stream by a ticket', 'accept', () => open(ticket))
  await thief('URL of the stream: the ticket again', () => open(ticket))
  await thief('URL of the stream: an access token in the place of the ticket', () =>
    open(accessToken),
  )
  await thief('a new ticket for another request', async () =>
    open(await newTicket(), mcpPaths.tools),
  )
  const shared = await newTicket()
  const uses = await Promise.all(Array.from({ length: 16 }, () => open(shared)))
  const winners = uses.filter(({ ok }) => ok)
  await owner('sixteen uses of one ticket at once: one opens the stream', 'accept', async () =>
    winners.length === 1 && winners[0] ? winners[0] : new Response(null, { status: 500 }),
  )
  await thief('sixteen uses of one ticket at once: the others', async () => {
    const others = uses.filter(({ ok }) => !ok)
    return others.length === 15 && others[0] ? others[0] : new Response(null, { status: 500 })
  })

  // A thief who calls itself the agent.
  const ask = async (changes: Record<string, string>) => {
    const { status } = await createBrowser().visit(authorizeUrl('x'.repeat(43), changes))
    return new Response(JSON.stringify({ error: 'invalid_request' }), { status })
  }
  await thief("a document at the thief's host that names the agent", () =>
    ask({ client_id: fixtures.fakeId }),
  )
  await thief("the agent's document, a redirect to the thief", () =>
    ask({ redirect_uri: 'https://thief.example/callback' }),
  )

  // The desktop is lost. The person ends it, at My security, and the laptop goes on.
  await owner('end the copy on the desktop', 'accept', async () => {
    const page = await browser.visit(`${issuer}/security/applications`)
    const jkt = await thumbprint(desktop.key)
    const line = page.html.slice(page.html.indexOf(jkt.slice(0, 8)))
    const after = await browser.submit({ ...page, html: line }, 'End this copy')
    return new Response(null, { status: after.status })
  })
  await thief('ended copy: its refresh token with its own key', () =>
    agent.refresh(desktop, desktop.key),
  )
  await owner('other copy: refresh', 'accept', async () => {
    const response = await agent.askForTokens(
      { grant_type: 'refresh_token', refresh_token: laptop.refreshToken, resource },
      laptop.key,
    )
    keep(laptop, await response.clone().json())
    return response
  })
  await owner('other copy: call a tool', 'accept', () => agent.call(laptop.key, laptop.accessToken))
}

const thumbprint = async ({ publicKey }: KeyPair) =>
  calculateJwkThumbprint(await exportJWK(publicKey))

function keep(machine: Machine, tokens: unknown): void {
  const { access_token, refresh_token } = tokens as Record<string, string | undefined>
  machine.accessToken = access_token ?? ''
  machine.refreshToken = refresh_token ?? ''
}
