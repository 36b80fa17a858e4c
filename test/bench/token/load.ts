import {
  createPrivateKey,
  generateKeyPairSync,
  hash,
  randomUUID,
  sign,
  X509Certificate,
} from 'node:crypto'
import { Agent } from 'undici'
import { selfSigned } from '../../support/certificates.ts'
import type { CandidateProcess } from './candidate-process.ts'
import {
  api,
  type ClientKeys,
  type CredentialOrder,
  clientIdOf,
  codeVerifier,
  deviceGrant,
  redirectUri,
  type Way,
} from './scenario.ts'

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/**
 * A key of a client: signs proofs and assertions as cheaply as Node can. `privateJwk` of one key makes
 * the same key in another process.
 */
export function makeKey(
  privateJwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    format: 'jwk',
  }),
) {
  const privateKey = createPrivateKey({ key: privateJwk, format: 'jwk' })
  const { kty, crv, x, y } = privateJwk
  const jwk = { kty, crv, x, y }
  return {
    jwk,
    privateJwk,
    jkt: hash('sha256', JSON.stringify({ crv, kty, x, y }), 'base64url'),
    sign(header: object, payload: object): string {
      const input = `${encode(header)}.${encode(payload)}`
      const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
      return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
    },
  }
}

export type Key = ReturnType<typeof makeKey>

/** What clients have keys for: proofs and assertions, and a certificate. */
export type Keys = Key & {
  readonly public: ClientKeys
  /** `x5t#S256` of the certificate, and the header that a proxy makes of it (RFC 9440). */
  readonly thumbprint: string
  readonly certificateHeader: string
}

/** The keys of the clients: all have the same. */
export async function makeKeys(): Promise<Keys> {
  const key = makeKey()
  const { cert, thumbprint } = await selfSigned()
  const { raw, publicKey } = new X509Certificate(cert)
  const der = raw.toString('base64')
  const certified = { ...publicKey.export({ format: 'jwk' }), x5c: [der] }
  const certificateHeader = `:${der}:`
  return { ...key, public: { jwk: key.jwk, certified }, thumbprint, certificateHeader }
}

/** The key that tokens of a client are bound to. */
export function boundTo({ binding }: Way, { jkt, thumbprint }: Keys): CredentialOrder['bound'] {
  if (binding === 'none') return {}
  return binding === 'dpop' ? { jkt } : { 'x5t#S256': thumbprint }
}

/** A request but for the refresh token, which only the answer before it brings. */
export interface Prepared {
  readonly path: '/token' | '/introspect'
  readonly headers: Record<string, string>
  readonly form: Record<string, string>
}

/** Who is asked, and the secrets of the clients there. */
type Asked = Pick<CandidateProcess, 'issuer' | 'secrets'>

/** Makes a request ahead of time, so that signing it is not measured. */
export function prepare(
  candidate: Asked,
  way: Way,
  key: Keys,
  credential: string | undefined,
): Prepared {
  const path = way.grant === 'introspection' ? '/introspect' : '/token'
  const identity = authenticate(candidate, way, key)
  return {
    path,
    headers: {
      ...identity.headers,
      ...(way.binding === 'dpop' && { dpop: proofOf(candidate.issuer + path, key) }),
      ...(way.binding === 'mtls' && { 'client-cert': key.certificateHeader }),
    },
    form: { ...formOf(way, credential), ...identity.form },
  }
}

function proofOf(htu: string, key: Key): string {
  const claims = { htm: 'POST', htu, jti: randomUUID(), iat: Math.floor(Date.now() / 1000) }
  return key.sign({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk }, claims)
}

function authenticate(
  { issuer, secrets }: Asked,
  way: Way,
  key: Keys,
): { headers: Record<string, string>; form: Record<string, string> } {
  const client_id = clientIdOf(way)
  const client_secret = secrets[client_id] ?? ''
  switch (way.method) {
    case 'none':
      return { headers: {}, form: { client_id } }
    case 'client_secret_basic': {
      const credentials = `${encodeURIComponent(client_id)}:${encodeURIComponent(client_secret)}`
      return { headers: { authorization: `Basic ${btoa(credentials)}` }, form: {} }
    }
    case 'client_secret_post':
      return { headers: {}, form: { client_id, client_secret } }
    case 'self_signed_tls_client_auth':
      return { headers: { 'client-cert': key.certificateHeader }, form: { client_id } }
    case 'private_key_jwt': {
      const iat = Math.floor(Date.now() / 1000)
      const names = { iss: client_id, sub: client_id, aud: issuer, jti: randomUUID() }
      const form = {
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: key.sign({ alg: 'ES256' }, { ...names, iat, exp: iat + 300 }),
      }
      return { headers: {}, form }
    }
  }
}

function formOf({ grant }: Way, credential = ''): Record<string, string> {
  switch (grant) {
    case 'client_credentials':
      return { grant_type: grant, scope: 'read', resource: api }
    case 'refresh_token':
      return { grant_type: grant }
    case 'authorization_code': {
      const redeemed = { code: credential, code_verifier: codeVerifier }
      return { grant_type: grant, redirect_uri: redirectUri, ...redeemed }
    }
    case 'device_code':
      return { grant_type: deviceGrant, device_code: credential }
    case 'introspection':
      return { token: credential }
  }
}

/**
 * By undici, which takes half the CPU of node:http: the load runs on the cores of those measured.
 * Idle connections are given up before a server does: a busy machine may pause for longer than that.
 */
const agent = new Agent({
  connections: 64,
  pipelining: 1,
  keepAliveTimeout: 3000,
  keepAliveMaxTimeout: 3000,
})

export interface Answer {
  readonly status: number
  readonly body: {
    access_token?: string
    refresh_token?: string
    active?: boolean
    error?: string
  }
}

export async function send(
  candidate: Pick<Asked, 'issuer'>,
  { path, headers, form }: Prepared,
  refreshToken?: string,
): Promise<Answer> {
  const body = new URLSearchParams({
    ...form,
    ...(refreshToken && { refresh_token: refreshToken }),
  }).toString()
  const { statusCode, body: incoming } = await agent.request({
    origin: candidate.issuer,
    path,
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
    body,
  })
  return { status: statusCode, body: (await incoming.json()) as Answer['body'] }
}

/** What one round has shown. */
export interface Load {
  readonly seconds: number
  readonly failures: number
}

/**
 * Sends prepared requests from as many slots as there are refresh tokens (or `undefined`s): each
 * slot waits for its answer, and a refresh takes its token from the answer before.
 */
export async function sendAll(
  candidate: CandidateProcess,
  prepared: readonly Prepared[],
  slots: (string | undefined)[],
): Promise<Load> {
  let next = 0
  let failures = 0
  const start = process.hrtime.bigint()
  await Promise.all(
    slots.map(async (token, slot) => {
      for (let ready = prepared[next++]; ready; ready = prepared[next++]) {
        const { status, body } = await send(candidate, ready, slots[slot])
        if (status !== 200 || !(body.access_token || body.active)) failures += 1
        if (token && body.refresh_token) slots[slot] = body.refresh_token
      }
    }),
  )
  return { seconds: Number(process.hrtime.bigint() - start) / 1e9, failures }
}
