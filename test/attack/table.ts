/** What attackers, broken clients and honest ones send, and what has to become of it. As data. */
import { createHash } from 'node:crypto'
import type { Facts } from '../../packages/verify/answer.ts'
import type { VerifyErrorCode } from '../../packages/verify/errors.ts'
import {
  accessToken,
  ath,
  audience,
  clientKey,
  dpopProof,
  issuer,
  issuerKey,
  jkt,
  start,
  url,
} from '../support/verify/fixtures.ts'
import { encode, makeKey, signJws, signRaw, type TestKey } from '../support/verify/keys.ts'
import type { Sent } from '../support/verify/raw-http.ts'

/** A request, and what the TLS layer knows of its connection. */
export type Attack = Sent & Readonly<{ facts?: Facts }>

/** How the verifier of a row is set up: as it comes, or with places and bearer tokens allowed. */
export type Profile = 'default' | 'everywhere' | 'lax'

export type AttackRow = Readonly<{
  case: string
  expected: 'accepted' | VerifyErrorCode
  attack: () => Attack
  profile?: Profile
  /** Sent more than once: one must be accepted, and `expected` is what becomes of the others. */
  repeat?: 'in-turn' | 'at-once' | 'on-two-nodes'
  /** HTTP/2 and fetch cannot say this. */
  needsRepeatedFields?: true
}>

type Members = Record<string, unknown>

const thief = makeKey()
const certificate = { thumbprint: sha256('the certificate') }
const otherCertificate = { thumbprint: sha256('another certificate') }
const providedId = Buffer.from('the Token Binding ID')
const tbh = sha256('the Token Binding ID')
const form = ['Content-Type', 'application/x-www-form-urlencoded'] as const

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

function get(...headers: (readonly [string, string])[]): Attack {
  return { method: 'GET', target: url, headers }
}

const bearer = (token: string) => get(['Authorization', `Bearer ${token}`])
const dpop = (token: string, proof: string) =>
  get(['Authorization', `DPoP ${token}`], ['DPoP', proof])

function query(token: string, ...headers: (readonly [string, string])[]): Attack {
  return { ...get(...headers), target: `/notes?access_token=${token}` }
}

function body(token: string, ...headers: (readonly [string, string])[]): Attack {
  return { method: 'POST', target: url, headers: [form, ...headers], body: `access_token=${token}` }
}

/** A valid token with a proof that is valid but for the overrides. */
function withProof(claims: Members, header: Members = {}, key: TestKey = clientKey) {
  return () => {
    const token = accessToken()
    return dpop(token, dpopProof(token, claims, header, key))
  }
}

/** A token that is valid but for the overrides, with a valid proof. */
function withToken(claims: Members, header: Members = {}, key: TestKey = issuerKey) {
  return () => {
    const token = accessToken(claims, header, key)
    return dpop(token, dpopProof(token))
  }
}

const withCnf = (cnf: unknown) => withToken({ cnf })
const plain = () => accessToken({ cnf: undefined })
const proofFor = (token: string, claims: Members = {}) =>
  ['DPoP', dpopProof(token, claims)] as const

/** An accepted request with one header field more. */
function with10000Bytes(): Attack {
  const valid = withProof({})()
  return { ...valid, headers: [...valid.headers, ['X-Padding', 'x'.repeat(10_000)]] }
}

function proofWithPayload(payload: string | Buffer): () => Attack {
  return () => {
    const input = `${encode(JSON.stringify({ typ: 'dpop+jwt', alg: 'ES256', jwk: clientKey.publicJwk }))}.${encode(payload)}`
    return dpop(accessToken(), `${input}.${encode(signRaw(clientKey, input))}`)
  }
}

export const attackTable: readonly AttackRow[] = [
  // Honest requests: a verifier that refuses everything is no use.
  { case: 'valid DPoP token and proof', expected: 'accepted', attack: withProof({}) },
  {
    case: 'audience array',
    expected: 'accepted',
    attack: withToken({ aud: ['https://b.example', audience] }),
  },
  {
    case: 'kc-jkt-type beside jkt',
    expected: 'accepted',
    attack: withCnf({ jkt, 'kc-jkt-type': 'dpop' }),
  },
  { case: 'query in htu', expected: 'accepted', attack: withProof({ htu: `${audience}${url}` }) },
  {
    case: 'fragment in htu',
    expected: 'accepted',
    attack: withProof({ htu: `${audience}/notes#top` }),
  },
  {
    case: 'htu in another spelling',
    expected: 'accepted',
    attack: withProof({ htu: 'HTTPS://API.example:443/./%6eotes' }),
  },
  { case: '10,000 header bytes', expected: 'accepted', attack: with10000Bytes },
  {
    case: 'x5t token with its certificate',
    expected: 'accepted',
    attack: () => ({
      ...bearer(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } })),
      facts: { certificate },
    }),
  },
  {
    case: 'tbh token with its Token Binding',
    expected: 'accepted',
    attack: () => ({
      ...bearer(accessToken({ cnf: { tbh } })),
      facts: { tokenBinding: { providedId } },
    }),
  },
  {
    case: 'jkt and x5t, both proven',
    expected: 'accepted',
    attack: () => ({
      ...withCnf({ jkt, 'x5t#S256': certificate.thumbprint })(),
      facts: { certificate },
    }),
  },

  // Tokens without their key.
  { case: 'no token', expected: 'credentials_missing', attack: () => get() },
  { case: 'plain token in header', expected: 'bearer_refused', attack: () => bearer(plain()) },
  { case: 'plain token in query', expected: 'credentials_location', attack: () => query(plain()) },
  { case: 'plain token in body', expected: 'credentials_location', attack: () => body(plain()) },
  {
    case: 'plain token in query, places allowed',
    profile: 'everywhere',
    expected: 'bearer_refused',
    attack: () => query(plain()),
  },
  {
    case: 'plain token in body, places allowed',
    profile: 'everywhere',
    expected: 'bearer_refused',
    attack: () => body(plain()),
  },
  {
    case: 'plain token in header, bearer allowed',
    profile: 'lax',
    expected: 'accepted',
    attack: () => bearer(plain()),
  },
  {
    case: 'plain token in query, bearer allowed',
    profile: 'lax',
    expected: 'bearer_refused',
    attack: () => query(plain()),
  },
  {
    case: 'plain token in the DPoP scheme',
    profile: 'lax',
    expected: 'scheme_mismatch',
    attack: withCnf(undefined),
  },
  ...(['default', 'everywhere', 'lax'] as const).flatMap((profile): AttackRow[] => [
    {
      case: `jkt token as Bearer, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => bearer(accessToken()),
    },
    {
      case: `jkt token in query, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => query(accessToken()),
    },
    {
      case: `jkt token in body, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => body(accessToken()),
    },
    {
      case: `jkt token as Bearer with a valid proof, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => {
        const token = accessToken()
        return get(['Authorization', `Bearer ${token}`], proofFor(token))
      },
    },
    {
      case: `jkt token in query with a valid proof, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => {
        const token = accessToken()
        return query(token, proofFor(token))
      },
    },
    {
      case: `jkt token in body with a valid proof, ${profile}`,
      profile,
      expected: 'dpop_token_leaked',
      attack: () => {
        const token = accessToken()
        return body(token, proofFor(token, { htm: 'POST' }))
      },
    },
  ]),

  // Proofs of something else.
  {
    case: 'no proof',
    expected: 'dpop_missing',
    attack: () => get(['Authorization', `DPoP ${accessToken()}`]),
  },
  { case: 'proof by another key', expected: 'dpop_key_mismatch', attack: withProof({}, {}, thief) },
  { case: 'no ath', expected: 'dpop_token_hash', attack: withProof({ ath: undefined }) },
  { case: 'wrong ath', expected: 'dpop_token_hash', attack: withProof({ ath: ath('another') }) },
  { case: 'wrong method', expected: 'dpop_method', attack: withProof({ htm: 'POST' }) },
  { case: 'method in lower case', expected: 'dpop_method', attack: withProof({ htm: 'get' }) },
  {
    case: 'wrong host',
    expected: 'dpop_uri',
    attack: withProof({ htu: 'https://evil.example/notes' }),
  },
  {
    case: 'host of the Host header',
    expected: 'dpop_uri',
    attack: withProof({ htu: 'http://backend.internal/notes' }),
  },
  {
    case: 'host of X-Forwarded-Host',
    expected: 'dpop_uri',
    attack: () => {
      const valid = withProof({ htu: 'https://evil.example/notes' })()
      return { ...valid, headers: [...valid.headers, ['X-Forwarded-Host', 'evil.example']] }
    },
  },
  {
    case: 'wrong port',
    expected: 'dpop_uri',
    attack: withProof({ htu: 'https://api.example:8443/notes' }),
  },
  { case: 'wrong path', expected: 'dpop_uri', attack: withProof({ htu: `${audience}/admin` }) },
  {
    case: 'path in another case',
    expected: 'dpop_uri',
    attack: withProof({ htu: `${audience}/Notes` }),
  },
  {
    case: 'wrong scheme',
    expected: 'dpop_uri',
    attack: withProof({ htu: 'http://api.example/notes' }),
  },
  {
    case: 'user information in htu',
    expected: 'dpop_uri',
    attack: withProof({ htu: 'https://x@api.example/notes' }),
  },
  { case: 'proof too old', expected: 'dpop_expired', attack: withProof({ iat: start - 3600 }) },
  {
    case: 'proof from the future',
    expected: 'dpop_not_yet_valid',
    attack: withProof({ iat: start + 3600 }),
  },
  { case: 'no iat', expected: 'dpop_claims', attack: withProof({ iat: undefined }) },
  { case: 'no jti', expected: 'dpop_claims', attack: withProof({ jti: undefined }) },
  { case: 'no htm', expected: 'dpop_claims', attack: withProof({ htm: undefined }) },
  { case: 'no htu', expected: 'dpop_claims', attack: withProof({ htu: undefined }) },
  { case: 'same proof twice', repeat: 'in-turn', expected: 'dpop_replayed', attack: withProof({}) },
  {
    case: 'same proof twice, concurrently',
    repeat: 'at-once',
    expected: 'dpop_replayed',
    attack: withProof({}),
  },
  {
    case: 'same proof on two nodes sharing a store',
    repeat: 'on-two-nodes',
    expected: 'dpop_replayed',
    attack: withProof({}),
  },
  {
    case: 'same proof with its signature malleated',
    expected: 'dpop_replayed',
    repeat: 'in-turn',
    attack: malleated(),
  },

  // Too much of everything.
  {
    case: 'two DPoP headers',
    needsRepeatedFields: true,
    expected: 'dpop_multiple',
    attack: () => {
      const token = accessToken()
      return get(['Authorization', `DPoP ${token}`], proofFor(token), proofFor(token))
    },
  },
  {
    case: 'two DPoP headers, joined',
    expected: 'dpop_multiple',
    attack: () => {
      const token = accessToken()
      return dpop(token, `${dpopProof(token)}, ${dpopProof(token)}`)
    },
  },
  {
    case: 'two Authorization headers',
    needsRepeatedFields: true,
    expected: 'credentials_multiple',
    attack: () => {
      const token = accessToken()
      const authorization = ['Authorization', `DPoP ${token}`] as const
      return get(authorization, authorization, proofFor(token))
    },
  },
  {
    case: 'Bearer and DPoP together',
    needsRepeatedFields: true,
    expected: 'credentials_multiple',
    attack: () => {
      const token = accessToken()
      return get(
        ['Authorization', `Bearer ${token}`],
        ['Authorization', `DPoP ${token}`],
        proofFor(token),
      )
    },
  },
  {
    case: 'Bearer and DPoP together, joined',
    expected: 'credentials_multiple',
    attack: () => {
      const token = accessToken()
      return get(['Authorization', `DPoP ${token}, Bearer ${token}`], proofFor(token))
    },
  },
  {
    case: 'header and query',
    expected: 'credentials_multiple',
    attack: () => {
      const token = accessToken()
      return query(token, ['Authorization', `DPoP ${token}`], proofFor(token))
    },
  },
  {
    case: 'header and body',
    expected: 'credentials_multiple',
    attack: () => {
      const token = accessToken()
      return body(token, ['Authorization', `DPoP ${token}`], proofFor(token, { htm: 'POST' }))
    },
  },
  {
    case: 'scheme without token',
    expected: 'credentials_malformed',
    attack: () => get(['Authorization', 'DPoP']),
  },

  // Proofs that are no proofs.
  { case: 'proof alg none', expected: 'dpop_algorithm', attack: withProof({}, { alg: 'none' }) },
  { case: 'proof alg HS256', expected: 'dpop_algorithm', attack: withProof({}, { alg: 'HS256' }) },
  {
    case: 'proof alg mismatched',
    expected: 'dpop_algorithm',
    attack: withProof({}, { alg: 'RS256' }),
  },
  {
    case: 'private JWK',
    expected: 'dpop_key',
    attack: withProof({}, { jwk: clientKey.privateJwk }),
  },
  {
    case: 'symmetric JWK',
    expected: 'dpop_key',
    attack: withProof({}, { jwk: { kty: 'oct', k: encode('secret') } }),
  },
  {
    case: 'non-canonical JWK',
    expected: 'dpop_key',
    attack: withProof({}, { jwk: { ...clientKey.publicJwk, x: `${clientKey.publicJwk.x}=` } }),
  },
  {
    case: 'JWK off its curve',
    expected: 'dpop_key',
    attack: withProof({}, { jwk: { ...clientKey.publicJwk, y: clientKey.publicJwk.x } }),
  },
  { case: 'no JWK', expected: 'dpop_key', attack: withProof({}, { jwk: undefined }) },
  {
    case: 'JWK of the right key, signed by a thief',
    expected: 'dpop_signature',
    attack: withProof({}, { jwk: clientKey.publicJwk }, thief),
  },
  { case: 'proof typ missing', expected: 'dpop_type', attack: withProof({}, { typ: undefined }) },
  { case: 'proof typ JWT', expected: 'dpop_type', attack: withProof({}, { typ: 'JWT' }) },
  {
    case: 'proof with duplicate members',
    expected: 'dpop_malformed',
    attack: proofWithPayload('{"htm":"GET","htm":"POST"}'),
  },
  {
    case: 'proof that is not UTF-8',
    expected: 'dpop_malformed',
    attack: proofWithPayload(Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d])),
  },
  {
    case: 'proof in invalid base64url',
    expected: 'dpop_malformed',
    attack: () => {
      const token = accessToken()
      return dpop(token, dpopProof(token).replace(/\.(.)/, '.$1*'))
    },
  },
  { case: 'huge proof', expected: 'dpop_too_large', attack: withProof({ pad: 'x'.repeat(7000) }) },

  // Tokens that are no access tokens for this resource.
  { case: 'token alg none', expected: 'token_algorithm', attack: withToken({}, { alg: 'none' }) },
  { case: 'token alg HS256', expected: 'token_algorithm', attack: withToken({}, { alg: 'HS256' }) },
  { case: 'token alg mismatched', expected: 'token_key', attack: withToken({}, { alg: 'ES384' }) },
  {
    case: 'token signed by a thief',
    expected: 'token_signature',
    attack: withToken({}, {}, thief),
  },
  {
    case: 'token with a key of its own',
    expected: 'token_signature',
    attack: withToken({}, { jwk: thief.publicJwk, jku: 'https://evil.example' }, thief),
  },
  {
    case: 'token with an unknown kid',
    expected: 'token_key',
    attack: withToken({}, { kid: 'k9' }),
  },
  { case: 'token typ missing', expected: 'token_type', attack: withToken({}, { typ: undefined }) },
  {
    case: 'ID token as access token',
    expected: 'token_type',
    attack: withToken({ nonce: 'n' }, { typ: 'JWT' }),
  },
  {
    case: 'proof as access token',
    expected: 'token_type',
    attack: () => dpop(dpopProof('x'), dpopProof('x')),
  },
  { case: 'expired', expected: 'token_expired', attack: withToken({ exp: start - 60 }) },
  {
    case: 'not yet valid',
    expected: 'token_not_yet_valid',
    attack: withToken({ nbf: start + 60 }),
  },
  { case: 'wrong issuer', expected: 'token_issuer', attack: withToken({ iss: `${issuer}/` }) },
  {
    case: 'wrong audience',
    expected: 'token_audience',
    attack: withToken({ aud: 'https://b.example' }),
  },
  {
    case: 'wrong audience array',
    expected: 'token_audience',
    attack: withToken({ aud: ['https://b.example', 'c'] }),
  },
  {
    case: 'huge token',
    expected: 'token_too_large',
    attack: withToken({ pad: 'x'.repeat(15_000) }),
  },
  {
    case: 'token in invalid base64url',
    expected: 'token_malformed',
    attack: () => {
      const token = accessToken().replace('.', '.*')
      return dpop(token, dpopProof(token))
    },
  },
  {
    case: 'token that is not UTF-8',
    expected: 'token_malformed',
    attack: () => dpop(`${accessToken()}\u00ff`, 'x'),
  },
  {
    case: 'token with duplicate members',
    expected: 'token_malformed',
    attack: () => {
      const claims = JSON.stringify({ iss: issuer, aud: audience, cnf: { jkt } })
      const token = signJws(
        issuerKey,
        { typ: 'at+jwt', alg: 'ES256', kid: 'k1' },
        `${claims.slice(0, -1)},"cnf":{}}`,
      )
      return dpop(token, dpopProof(token))
    },
  },

  // Confirmations.
  { case: 'cnf string', expected: 'confirmation_malformed', attack: withCnf(jkt) },
  { case: 'cnf array', expected: 'confirmation_malformed', attack: withCnf([{ jkt }]) },
  { case: 'cnf null', expected: 'confirmation_malformed', attack: withCnf(null) },
  { case: 'cnf empty', expected: 'confirmation_unknown', attack: withCnf({}) },
  {
    case: 'cnf empty, as Bearer, bearer allowed',
    profile: 'lax',
    expected: 'confirmation_unknown',
    attack: () => bearer(accessToken({ cnf: {} })),
  },
  { case: 'cnf unknown', expected: 'confirmation_unknown', attack: withCnf({ kid: 'k' }) },
  {
    case: 'cnf unknown, as Bearer, bearer allowed',
    profile: 'lax',
    expected: 'confirmation_unknown',
    attack: () => bearer(accessToken({ cnf: { jwk: clientKey.publicJwk } })),
  },
  {
    case: 'cnf unknown beside jkt',
    expected: 'confirmation_unknown',
    attack: withCnf({ jkt, osc: {} }),
  },
  {
    case: 'kc-jkt-type alone',
    expected: 'confirmation_unknown',
    attack: withCnf({ 'kc-jkt-type': 'dpop' }),
  },
  { case: 'numeric jkt', expected: 'confirmation_malformed', attack: withCnf({ jkt: 7 }) },
  {
    case: 'short jkt',
    expected: 'confirmation_malformed',
    attack: withCnf({ jkt: jkt.slice(0, 42) }),
  },
  {
    case: 'jkt and x5t, only jkt proven',
    expected: 'certificate_missing',
    attack: withCnf({ jkt, 'x5t#S256': certificate.thumbprint }),
  },
  {
    case: 'jkt and x5t, only x5t proven',
    expected: 'dpop_token_leaked',
    attack: () => ({
      ...bearer(accessToken({ cnf: { jkt, 'x5t#S256': certificate.thumbprint } })),
      facts: { certificate },
    }),
  },
  {
    case: 'x5t token without certificate',
    expected: 'certificate_missing',
    attack: () => bearer(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } })),
  },
  {
    case: 'x5t token with another certificate',
    expected: 'certificate_mismatch',
    attack: () => ({
      ...bearer(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } })),
      facts: { certificate: otherCertificate },
    }),
  },
  {
    case: 'x5t token behind a spoofed header',
    expected: 'certificate_missing',
    attack: () => {
      const valid = bearer(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } }))
      const spoofed = ['Client-Cert', 'X-SSL-Cert', 'X-Forwarded-Client-Cert'].map(
        (name) => [name, 'the certificate'] as const,
      )
      return { ...valid, headers: [...valid.headers, ...spoofed] }
    },
  },
  {
    case: 'x5t token in query with another certificate',
    profile: 'everywhere',
    expected: 'certificate_mismatch',
    attack: () => ({
      ...query(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } })),
      facts: { certificate: otherCertificate },
    }),
  },
  {
    case: 'x5t token in query with its certificate',
    profile: 'everywhere',
    expected: 'accepted',
    attack: () => ({
      ...query(accessToken({ cnf: { 'x5t#S256': certificate.thumbprint } })),
      facts: { certificate },
    }),
  },
  {
    case: 'tbh token without Token Binding',
    expected: 'token_binding_missing',
    attack: () => bearer(accessToken({ cnf: { tbh } })),
  },
  {
    case: 'tbh token with another Token Binding',
    expected: 'token_binding_mismatch',
    attack: () => ({
      ...bearer(accessToken({ cnf: { tbh } })),
      facts: { tokenBinding: { providedId: Buffer.from('x') } },
    }),
  },
  {
    case: 'tbh token behind a spoofed header',
    expected: 'token_binding_missing',
    attack: () => {
      const valid = bearer(accessToken({ cnf: { tbh } }))
      return {
        ...valid,
        headers: [...valid.headers, ['Sec-Provided-Token-Binding-ID', encode(providedId)]],
      }
    },
  },
]

/** A proof whose second use has another valid signature: s turned into n - s. */
function malleated(): () => Attack {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')
  let first: { token: string; proof: string } | undefined
  return () => {
    if (first === undefined) {
      const token = accessToken()
      first = { token, proof: dpopProof(token) }
      return dpop(token, first.proof)
    }
    const { token, proof } = first
    first = undefined
    const [header, payload, signature = ''] = proof.split('.')
    const bytes = Buffer.from(signature, 'base64url')
    const s = order - BigInt(`0x${bytes.toString('hex', 32)}`)
    bytes.write(s.toString(16).padStart(64, '0'), 32, 'hex')
    return dpop(token, `${header}.${payload}.${encode(bytes)}`)
  }
}
