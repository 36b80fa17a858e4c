/** Verification alone, without a server around it. */
import { createHash, createPublicKey, sign, verify } from 'node:crypto'
import type { RequestHandler } from 'express'
import { createVerifier, type VerifyRequest } from '../../../packages/verify/verifier.ts'
import { clientKey, issuerKey } from '../../support/verify/fixtures.ts'
import type { TestKey } from '../../support/verify/keys.ts'
import type { Contestant } from './measure.ts'
import { makeJoseByHand, oauth4webapi } from './peers.ts'
import {
  audience,
  authorizationFor,
  freshProof,
  freshToken,
  issuer,
  jwks,
  rawHeaders,
} from './requests.ts'

const method = 'GET'
const url = '/notes?limit=3'
const uri = `${audience}/notes`
const token = freshToken()
const authorization = authorizationFor(token, 'DPoP')
const verifier = createVerifier({ issuer, audience, jwks })

function times<T>(operations: number, make: () => T): T[] {
  return Array.from({ length: operations }, make)
}

/**
 * What no verifier can do without: the signature, with key and bytes at hand. Another one each
 * time, as in any server: the same one again teaches the processor every branch, and is 5% cheaper.
 */
function bareVerify(key: TestKey) {
  const publicKey = createPublicKey({ format: 'jwk', key: key.publicJwk as never })
  return {
    prepare() {
      const data = Buffer.from(freshProof(token).split('.').slice(0, 2).join('.'))
      return { data, signature: sign('sha256', data, key.privateKey) }
    },
    run({ data, signature }: { data: Buffer; signature: Buffer }) {
      if (!verify('sha256', data, publicKey, signature)) throw new Error('refused')
    },
  }
}

const first = bareVerify(clientKey)
const second = bareVerify(issuerKey)

async function accept(request: VerifyRequest): Promise<void> {
  await verifier.verify(request)
}

function withProof(bound: string, authorization = authorizationFor(bound, 'DPoP')): VerifyRequest {
  return { method, url, headers: rawHeaders(authorization, freshProof(bound)) }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('base64url')
}

/** Requests on one connection, whose certificate or Token Binding was established before. */
function onConnection(cnf: Record<string, string>, facts: Partial<VerifyRequest>) {
  const headers = rawHeaders(authorizationFor(freshToken({ cnf }), 'Bearer'))
  return (n: number) => times(n, () => ({ method, url, headers, ...facts }))
}

const certificate = Buffer.from('a certificate')
const providedId = Buffer.from('a Token Binding ID')
const mtls = onConnection({ 'x5t#S256': sha256(certificate) }, { certificate })
const tokenBinding = onConnection({ tbh: sha256(providedId) }, { tokenBinding: { providedId } })

export const ours: readonly Contestant[] = [
  {
    name: 'one bare verify',
    operations: 800,
    prepare: (n) => times(n, first.prepare),
    run: first.run,
  },
  {
    name: 'known token',
    operations: 800,
    prepare: (n) => times(n, () => withProof(token, authorization)),
    run: accept,
  },
  {
    name: 'two bare verifies',
    operations: 500,
    prepare: (n) => times(n, () => [first.prepare(), second.prepare()]),
    run: ([proof, access]: ReturnType<typeof first.prepare>[]) => {
      first.run(proof as never)
      second.run(access as never)
    },
  },
  {
    name: 'new token',
    operations: 800,
    prepare: (n) => times(n, () => withProof(freshToken())),
    run: accept,
  },
  { name: 'certificate', operations: 20_000, prepare: mtls, run: accept },
  { name: 'token binding', operations: 20_000, prepare: tokenBinding, run: accept },
]

/** Each peer one request at a time, and sixteen: WebCrypto's thread pool likes company. */
export function peers(auth0: RequestHandler): Contestant[] {
  const kinds = [
    {
      name: 'jose',
      prepare: (n: number) => times(n, () => ({ method, uri, token, proof: freshProof(token) })),
      run: makeJoseByHand(jwks as never) as (item: never) => unknown,
    },
    {
      name: 'oauth4webapi',
      prepare: (n: number) =>
        times(n, () => {
          const headers = { authorization: `DPoP ${token}`, dpop: freshProof(token) }
          return new Request(`${audience}${url}`, { headers })
        }),
      run: oauth4webapi as (item: never) => unknown,
    },
    {
      name: 'auth0',
      prepare: (n: number) => times(n, () => expressRequest(freshProof(token))),
      run: (request: never) =>
        new Promise<void>((resolve, reject) => {
          auth0(request, {} as never, (error) => (error ? reject(error) : resolve()))
        }),
    },
  ]
  return kinds.flatMap((kind) =>
    [1, 16].map((concurrency) => ({
      ...kind,
      name: `${kind.name} ×${concurrency}`,
      operations: 256,
      concurrency,
    })),
  )
}

/** What express would hand to a middleware. */
function expressRequest(proof: string) {
  const headers: Record<string, string> = {
    host: 'api.example',
    authorization: `DPoP ${token}`,
    dpop: proof,
  }
  const get = (name: string) => headers[name.toLowerCase()]
  const app = { get: () => () => false }
  const rest = { protocol: 'https', originalUrl: url, query: {}, is: () => false, socket: {} }
  return { method, url, headers, rawHeaders: Object.entries(headers).flat(), get, app, ...rest }
}
