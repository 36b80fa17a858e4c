import { generateKeyPairSync, hash, randomUUID, sign } from 'node:crypto'
import { Agent, request } from 'node:http'
import type { CandidateProcess } from './candidate-process.ts'
import { api, type Grant, type Method } from './scenario.ts'

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A key of a client: signs proofs and assertions as cheaply as Node can. */
export function makeKey() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { kty, crv, x, y } = publicKey.export({ format: 'jwk' })
  const jwk = { kty, crv, x, y }
  return {
    jwk,
    jkt: hash('sha256', JSON.stringify({ crv, kty, x, y }), 'base64url'),
    sign(header: object, payload: object): string {
      const input = `${encode(header)}.${encode(payload)}`
      const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
      return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
    },
  }
}

export type Key = ReturnType<typeof makeKey>

/** A token request but for the refresh token, which only the answer before it brings. */
export interface Prepared {
  readonly headers: Record<string, string>
  readonly form: Record<string, string>
}

/** Makes token requests ahead of time, so that signing them is not measured. */
export function prepare(
  candidate: CandidateProcess,
  { grant, method, key }: { grant: Grant; method: Method; key: Key },
): Prepared {
  const now = Math.floor(Date.now() / 1000)
  const clientId = `bench-${method}`
  const dpop = key.sign(
    { typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk },
    { htm: 'POST', htu: `${candidate.issuer}/token`, jti: randomUUID(), iat: now },
  )
  const claims = {
    iss: clientId,
    sub: clientId,
    aud: candidate.issuer,
    jti: randomUUID(),
    iat: now,
    exp: now + 300,
  }
  const secret = method === 'bearer' ? (candidate.bearerSecret ?? '') : candidate.clientSecret
  const credentials = `${encodeURIComponent(clientId)}:${encodeURIComponent(secret)}`
  const basic = method !== 'private_key_jwt'
  return {
    headers: {
      ...(method !== 'bearer' && { dpop }),
      ...(basic && { authorization: `Basic ${btoa(credentials)}` }),
    },
    form: {
      ...(grant === 'refresh'
        ? { grant_type: 'refresh_token' }
        : { grant_type: 'client_credentials', scope: 'read', resource: api }),
      ...(!basic && {
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: key.sign({ alg: 'ES256' }, claims),
      }),
    },
  }
}

// Idle connections are given up before a server does: a busy machine may pause for longer than that.
const agent = new Agent({ keepAlive: true, maxSockets: 64, timeout: 3000 })

export interface Answer {
  readonly status: number
  readonly body: { access_token?: string; refresh_token?: string; error?: string }
}

export function send(
  candidate: CandidateProcess,
  { headers, form }: Prepared,
  refreshToken?: string,
): Promise<Answer> {
  const body = new URLSearchParams({
    ...form,
    ...(refreshToken && { refresh_token: refreshToken }),
  }).toString()
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${candidate.issuer}/token`,
      {
        agent,
        method: 'POST',
        headers: {
          ...headers,
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', reject)
        incoming.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          resolve({ status: incoming.statusCode ?? 0, body: JSON.parse(text) })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
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
    slots.map(async (_, slot) => {
      for (let ready = prepared[next++]; ready; ready = prepared[next++]) {
        const { status, body } = await send(candidate, ready, slots[slot])
        if (status !== 200 || !body.access_token) failures += 1
        if (body.refresh_token) slots[slot] = body.refresh_token
      }
    }),
  )
  return { seconds: Number(process.hrtime.bigint() - start) / 1e9, failures }
}
