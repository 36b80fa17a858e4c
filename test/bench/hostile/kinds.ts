import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { makeKey } from '../token/load.ts'
import { form, type Sent } from './sender.ts'

/** A hostile request, of a server that calls itself `issuer`. */
export type MakeRequest = (issuer: string) => Sent

const one = <T>(values: readonly T[]): T => values[randomInt(values.length)] as T
const junk = (bytes: number) => randomBytes(bytes).toString('base64url').slice(0, bytes)
const post = (target: string, fields: Record<string, string>): Sent => ({
  method: 'POST',
  target,
  ...form(fields),
})
const badCredentials = () => ({ authorization: `Basic ${btoa(`${junk(8)}:${junk(16)}`)}` })
const nested = '['.repeat(5900) + ']'.repeat(5900)

const authorization = () => ({
  client_id: 'app',
  response_type: 'code',
  redirect_uri: 'http://127.0.0.1/callback',
  scope: 'openid',
  code_challenge: junk(43),
  code_challenge_method: 'S256',
  state: junk(1500),
})

/** A proof that is right, by a key that nobody saw before, with a header that nobody needs. */
function makeJunkProof(issuer: string): string {
  const key = makeKey()
  return key.sign(
    { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk, junk: junk(5000) },
    {
      htm: 'POST',
      htu: `${issuer}/token`,
      jti: randomUUID(),
      iat: Math.floor(Date.now() / 1000),
    },
  )
}

const requests = {
  authorize: () => ({ target: `/authorize?${new URLSearchParams(authorization())}` }),
  'par-junk': () => post('/par', { client_id: junk(12), state: junk(1500) }),
  par: () => post('/par', authorization()),
  'token-credentials': () => {
    const sent = post(one(['/token', '/TOKEN', '/token/', '/Token', '/TOKEN/']), {
      grant_type: 'client_credentials',
    })
    return { ...sent, headers: { ...sent.headers, ...badCredentials() } }
  },
  'forged-certificate': () => ({
    target: one(['/jwks', '/token', '/authorize', '/', `/${junk(8)}`]),
    headers: { 'client-cert': `:${btoa(junk(600))}:` },
  }),
  'proof-junk': (issuer) => {
    const fields = { grant_type: 'refresh_token', client_id: 'app', refresh_token: junk(43) }
    const sent = post('/token', fields)
    return { ...sent, headers: { ...sent.headers, dpop: makeJunkProof(issuer) } }
  },
  'device-link': () => ({ target: `/device?user_code=${junk(4)}-${junk(4)}` }),
  'device-authorization': () => post('/device_authorization', { client_id: 'tv', scope: 'openid' }),
  introspect: () => {
    const sent = post('/introspect', { token: junk(43) })
    return { ...sent, headers: { ...sent.headers, ...badCredentials() } }
  },
  register: () => ({
    method: 'POST',
    target: '/register',
    headers: { 'content-type': 'application/json', authorization: `DPoP ${junk(43)}` },
    body: JSON.stringify({ client_name: junk(200), redirect_uris: [`https://${junk(8)}.example`] }),
  }),
  'nested-json': (issuer) =>
    one<Sent>([
      {
        method: 'POST',
        target: '/register',
        headers: { 'content-type': 'application/json', authorization: `DPoP ${junk(43)}` },
        body: nested,
      },
      { target: '/userinfo', headers: { authorization: `DPoP ${nestedToken}`, dpop: junk(20) } },
      post('/token', {
        grant_type: 'client_credentials',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: `${btoa(JSON.stringify({ iss: issuer }))}.${btoa(nested)}.x`,
      }),
    ]),
  'long-origin': () => ({
    target: one(['/jwks', '/token']),
    headers: { origin: `https://${junk(6000)}` },
  }),
  'long-path': () => ({ target: `/${junk(8000)}` }),
  'well-known': () => ({ target: '/.well-known/device-bound-sessions' }),
} satisfies Record<string, MakeRequest>

/** As much as a header takes: 16 KB with what else is there. */
const nestedToken = `${'e30'}.${btoa(nested).slice(0, 14_000)}.x`

export type SingleKind = keyof typeof requests
/** Those that take more than a request: the form of a sign-in, and a connection that nobody reads. */
export type Kind = SingleKind | 'login' | 'unread'

export const makers: Readonly<Record<SingleKind, MakeRequest>> = requests

/** How often each kind comes, of all. */
export const weights: Readonly<Record<Kind, number>> = {
  authorize: 24,
  'par-junk': 8,
  par: 14,
  'token-credentials': 20,
  'forged-certificate': 14,
  'proof-junk': 16,
  login: 8,
  'device-link': 8,
  'device-authorization': 8,
  introspect: 8,
  register: 6,
  'nested-json': 6,
  'long-origin': 10,
  'long-path': 6,
  'well-known': 8,
  unread: 18,
}

export const kinds = Object.keys(weights) as Kind[]

/** Kinds in turn by their weights, evenly mixed (smooth weighted round robin). */
export function takeTurns(chosen: readonly Kind[]): () => Kind {
  const credit = new Map(chosen.map((kind) => [kind, 0]))
  const total = chosen.reduce((sum, kind) => sum + weights[kind], 0)
  return () => {
    let next = chosen[0] as Kind
    for (const kind of chosen) {
      credit.set(kind, (credit.get(kind) ?? 0) + weights[kind])
      if ((credit.get(kind) ?? 0) > (credit.get(next) ?? 0)) next = kind
    }
    credit.set(next, (credit.get(next) ?? 0) - total)
    return next
  }
}
