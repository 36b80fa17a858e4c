/** The rows of the attack table about agents: an MCP server, its tools, and streams by tickets. */
import { VerifyError } from '../../packages/verify/errors.ts'
import { createMcpGuard } from '../../packages/verify/mcp.ts'
import { createTickets } from '../../packages/verify/ticket.ts'
import { accessToken, dpopProof, issuer, jwks, start } from '../support/verify/fixtures.ts'
import { makeKey } from '../support/verify/keys.ts'
import type { CertificateResult } from './run-certificates.ts'

type Members = Record<string, unknown>

const resource = 'https://mcp.example/mcp'
const stream = '/mcp/stream'
const thief = makeKey()
const claims = { aud: resource, scope: 'mcp:tools' }

interface Attempt {
  readonly claims?: Members
  readonly proof?: Members
  readonly key?: ReturnType<typeof makeKey>
  readonly scheme?: string
  readonly method?: string
  readonly target?: string
  readonly body?: unknown
  readonly withoutProof?: true
  readonly twice?: true
}

const call = (name: string) => ({ method: 'tools/call', params: { name } })

/** What an agent's request is, but for what the row changes; and the status and error it gets. */
const requests: readonly [title: string, expected: string, attempt: Attempt][] = [
  ['a tool that every client may call', '200', { body: call('list') }],
  [
    'a tool of another scope, with that scope',
    '200',
    { claims: { scope: 'mcp:tools notes:write' }, body: call('delete') },
  ],
  ['a token from a config file, as Bearer', '401 invalid_token', { scheme: 'Bearer' }],
  ['a token from a prompt, without a proof', '401 invalid_dpop_proof', { withoutProof: true }],
  ["a token of one machine, with another's key", '401 invalid_token', { key: thief }],
  [
    'a token that is bound to nothing',
    '401 invalid_token',
    { claims: { cnf: undefined }, scheme: 'Bearer' },
  ],
  [
    'a token for another MCP server',
    '401 invalid_token',
    { claims: { aud: 'https://other.example/mcp' } },
  ],
  [
    'a token for the origin, not for this server',
    '401 invalid_token',
    { claims: { aud: 'https://mcp.example' } },
  ],
  ['a token of another issuer', '401 invalid_token', { claims: { iss: 'https://evil.example' } }],
  [
    'a token whose time is over',
    '401 invalid_token',
    { claims: { iat: start - 7200, exp: start - 3600 } },
  ],
  ['a request from a log, again', '401 invalid_dpop_proof', { twice: true }],
  ['a proof that was made ahead of time', '401 use_dpop_nonce', { proof: { nonce: undefined } }],
  ['a proof with a nonce of a thief', '401 use_dpop_nonce', { proof: { nonce: 'thief' } }],
  ['a proof for another method', '401 invalid_dpop_proof', { proof: { htm: 'DELETE' } }],
  [
    'a proof for another server',
    '401 invalid_dpop_proof',
    { proof: { htu: 'https://evil.example/mcp' } },
  ],
  ['a proof for another token', '401 invalid_dpop_proof', { proof: { ath: 'x'.repeat(43) } }],
  [
    'a token without the scope of the server',
    '403 insufficient_scope',
    { claims: { scope: 'openid' } },
  ],
  ['a tool of another scope', '403 insufficient_scope', { body: call('delete') }],
  [
    'a tool of another scope, hidden in a batch',
    '403 insufficient_scope',
    { body: [call('list'), call('delete')] },
  ],
  ['a token in the URL', '401 invalid_token', { scheme: '', target: '/mcp?access_token=TOKEN' }],
]

/** Requests for a stream with a ticket, but for what the row changes. */
const streams: readonly [
  title: string,
  expected: string,
  change: (ticket: string) => { url?: string; method?: string; at?: number; times?: number },
][] = [
  ['a ticket', 'accepted', () => ({})],
  ['the URL of a stream, again', 'ticket_replayed', () => ({ times: 2 })],
  [
    'a ticket for another path',
    'ticket_request',
    (ticket) => ({ url: `/mcp/other?ticket=${ticket}` }),
  ],
  [
    'a ticket for another query',
    'ticket_request',
    (ticket) => ({ url: `${stream}?all=1&ticket=${ticket}` }),
  ],
  ['a ticket for another method', 'ticket_request', () => ({ method: 'POST' })],
  ['a ticket that is a minute old', 'ticket_expired', () => ({ at: start + 61 })],
  [
    'an access token in the place of a ticket',
    'ticket_malformed',
    () => ({ url: `${stream}?ticket=${accessToken(claims)}` }),
  ],
  [
    'a ticket with one letter changed',
    'ticket_malformed',
    (ticket) => ({
      url: `${stream}?ticket=${ticket.startsWith('A') ? 'B' : 'A'}${ticket.slice(1)}`,
    }),
  ],
  ['sixteen uses of one ticket at once', '1 of 16', () => ({ times: 16 })],
]

/** The guard of a server, and what a request gets. */
function guarded() {
  const tools = { delete: ['notes:write'] }
  const now = { s: start }
  const guard = createMcpGuard({
    issuer,
    jwks,
    resource,
    scopes: ['mcp:tools'],
    tools,
    now: () => now.s * 1000,
  })

  async function send(attempt: Attempt, nonce: string | undefined) {
    const { method = 'POST', scheme = 'DPoP', target = '/mcp' } = attempt
    const token = accessToken({ ...claims, ...attempt.claims })
    const proof = { htm: method, htu: resource, ...(nonce && { nonce }), ...attempt.proof }
    const headers = {
      ...(scheme && { authorization: `${scheme} ${token}` }),
      ...(attempt.withoutProof ? {} : { dpop: dpopProof(token, proof, {}, attempt.key) }),
    }
    const url = `https://mcp.example${target.replace('TOKEN', token)}`
    const body = JSON.stringify(attempt.body ?? { method: 'tools/list' })
    const make = () => new Request(url, { method, headers, body })
    const first = await guard.fetch(make())
    return attempt.twice ? guard.fetch(make()) : first
  }

  return {
    guard,
    now,
    send,
    async nonce() {
      const { response } = await send({}, undefined)
      return response?.headers.get('dpop-nonce') ?? ''
    },
  }
}

async function statusOf(attempt: Attempt): Promise<string> {
  const { send, nonce } = guarded()
  const { response } = await send(attempt, await nonce())
  if (!response) return '200'
  const challenges = response.headers.get('www-authenticate') ?? ''
  const [, error] = /error="([^"]+)"/.exec(challenges) ?? []
  return [response.status, error].filter(Boolean).join(' ')
}

async function outcomeOf(change: (typeof streams)[number][2]): Promise<string> {
  const { guard, now, send, nonce } = guarded()
  const admission = await send({}, await nonce())
  if (admission.response) throw new Error('the agent was refused')
  const tickets = createTickets(guard.verifier, {
    secrets: [Buffer.alloc(32, 7)],
    lifetime: 60,
    now: () => now.s * 1000,
  })
  const ticket = tickets.issue(admission.authInfo.extra.verified, { url: stream })
  const {
    url = `${stream}?ticket=${ticket}`,
    method = 'GET',
    at = start,
    times = 1,
  } = change(ticket)
  now.s = at
  const open = () => tickets.verify({ method, url, headers: {} }).then(() => 'accepted', codeOf)
  const uses = await Promise.all(Array.from({ length: times }, open))
  const won = uses.filter((use) => use === 'accepted').length
  if (times > 2) return `${won} of ${times}`
  return times === 2 && won !== 1 ? `${won} of 2` : (uses.at(-1) ?? '')
}

function codeOf(error: unknown): string {
  if (error instanceof VerifyError) return error.code
  throw error
}

/** What becomes of each row. */
export async function runAgents(): Promise<CertificateResult[]> {
  const results: CertificateResult[] = []
  for (const [title, expected, attempt] of requests) {
    results.push({ adapter: 'agents', case: title, expected, got: await statusOf(attempt) })
  }
  for (const [title, expected, change] of streams) {
    results.push({ adapter: 'agents', case: title, expected, got: await outcomeOf(change) })
  }
  return results
}
