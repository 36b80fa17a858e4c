/**
 * "Throws VerifyError and nothing else": valid inputs of each public function of `@holdfast/verify`
 * that takes bytes from a client or an issuer, mutated. A run is made from its seed alone.
 */

import {
  parseDbscHeader,
  verifyDbscRefresh,
  verifyDbscRegistration,
} from '../../packages/verify/dbsc.ts'
import { createDbscSessions } from '../../packages/verify/dbsc-sessions.ts'
import { VerifyError } from '../../packages/verify/errors.ts'
import * as library from '../../packages/verify/index.ts'
import { TokenBindingError } from '../../packages/verify/lib/token-binding-error.ts'
import { parseTokenBindingId, verifyTokenBinding } from '../../packages/verify/token-binding.ts'
import { readTokenBindingHeaders } from '../../packages/verify/token-binding-headers.ts'
import {
  beginTokenBoundLogin,
  finishTokenBoundLogin,
} from '../../packages/verify/token-binding-login.ts'
import {
  binding,
  ekm,
  makeEcKey,
  message,
  tokenBindingId,
} from '../support/token-binding-messages.ts'
import { deviceKey, refreshProof, registrationProof } from '../support/verify/dbsc.ts'
import {
  accessToken,
  ath,
  audience,
  dpopProof,
  htu,
  issuer,
  issuerKey,
  jkt,
  jwks,
  start,
  verifierWith,
} from '../support/verify/fixtures.ts'
import { signJws } from '../support/verify/keys.ts'

type Random = () => number
type Target = Readonly<{ name: string; run: (mutate: Mutate, random: Random) => unknown }>
type Mutate = (text: string) => string

/** xorshift32: the same inputs for the same seed, on any machine. */
function randomFrom(seed: number): Random {
  let state = seed | 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** Pieces that have broken readers before. */
const pieces = [
  ...[
    '',
    '.',
    '..',
    ',',
    '=',
    ' ',
    '\0',
    '\t',
    '\r\n',
    '"',
    '\\',
    '\\u0000',
    '\ud800',
    '\u{1F600}',
  ],
  ...[
    '{}',
    '[]',
    'null',
    'true',
    '1e999',
    '-1',
    '0',
    '1e-999',
    '"__proto__":{}',
    '"constructor":1',
  ],
  ...[
    '[['.repeat(40),
    '['.repeat(6000),
    '{"a":'.repeat(6000),
    'A'.repeat(9000),
    '%00',
    '%',
    '\uffff',
  ],
  ...[
    '"b64":false',
    '"crit":["b64"]',
    '"jku":"http://127.0.0.1/"',
    '"alg":"none"',
    '"alg":"HS256"',
  ],
  ...['"aud":[1,{},[],null]', '"cnf":{"jkt":1}', '"exp":1e999', '"kid":{}', '"jwk":{"kty":"RSA"}'],
]

function mutator(random: Random): Mutate {
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <T>(list: readonly T[]) => list[below(list.length)] as T
  const plain: Mutate = (text) => {
    const at = below(text.length + 1)
    const length = below(Math.min(8, text.length - at) + 1)
    switch (below(6)) {
      case 0:
        return text.slice(0, at) + pick(pieces) + text.slice(at + length)
      case 1:
        return text.slice(0, at)
      case 2:
        return text.slice(0, at) + String.fromCharCode(below(256)) + text.slice(at + 1)
      case 3:
        return text.slice(0, at) + text.slice(at).repeat(2)
      case 4:
        return pick(pieces)
      default:
        return text.slice(0, at) + text.slice(at + length)
    }
  }
  /** One part of a JWS, changed as it was before it was encoded. */
  const inside: Mutate = (text) => {
    const parts = text.split('.')
    const at = below(parts.length)
    const decoded = Buffer.from(parts[at] ?? '', 'base64url').toString('latin1')
    // Between members as well as anywhere.
    const changed = random() < 0.5 ? decoded.replace(/^\{/, `{${pick(pieces)},`) : plain(decoded)
    parts[at] = Buffer.from(changed, 'latin1').toString('base64url')
    return parts.join('.')
  }
  return (text) => {
    if (random() < 0.2) return text
    let changed = text
    for (let times = 1 + below(2); times > 0; times -= 1) {
      changed = (random() < 0.5 ? inside : plain)(changed)
    }
    return changed
  }
}

const secret = Buffer.alloc(32, 7)
const key = makeEcKey()
const everywhere = { tokenLocations: ['header', 'body', 'query'], allowBearer: true } as const
const verifier = verifierWith({ ...everywhere, allowUnboundTokenInQuery: true })
const nonces = library.createDPoPNonces({ secrets: [secret] })
const idToken = signJws(
  issuerKey,
  { alg: 'ES256', kid: 'k1' },
  { iss: issuer, aud: 'rp', sub: 'a', exp: start + 60, iat: start, nonce: 'n', cnf: { jkt } },
)
const idTokens = library.createIdTokenVerifier({
  issuer,
  clientId: 'rp',
  jwks,
  now: () => start * 1000,
})
const dbscExpected = { audience: 'https://op.example/dbsc', acceptChallenge: () => true }
const dbscKey = { alg: 'ES256', jwk: deviceKey.publicJwk as Record<string, string> }
const dbsc = createDbscSessions({
  origin: 'https://app.example',
  secret,
  bindings: { insert: async () => true, find: async () => ({ ...dbscKey, jkt: 'x' }) },
  replays: library.createMemoryReplayStore({ capacity: 1000 }),
})
const valid = { token: accessToken(), proof: '' }
const expected = { method: 'GET', uri: htu, now: start, ath: ath(valid.token), jkt }
valid.proof = dpopProof(valid.token)
const bound = message(binding(key))
const id = tokenBindingId(key).toString('base64url')
const certificateText = `Cert="-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----";By=x`

/** The issuer may send what it likes as well. */
function issuerThatSends(document: string, contentType = 'application/json') {
  const fetch = async (url: string) => {
    if (url.includes('/.well-known/')) {
      const found = { issuer, jwks_uri: `${issuer}/jwks`, introspection_endpoint: `${issuer}/i` }
      return Response.json(found)
    }
    return new Response(document, { headers: { 'content-type': contentType } })
  }
  return library.createVerifier({
    issuer,
    audience,
    now: () => start * 1000,
    fetch,
    jwksCooldown: 0,
  })
}

const asking = (document: string, signed: boolean) =>
  library.createVerifier({
    issuer,
    audience,
    jwks,
    now: () => start * 1000,
    fetch: async () =>
      new Response(document, {
        headers: { 'content-type': `application/${signed ? 'token-introspection+jwt' : 'json'}` },
      }),
    introspection: {
      endpoint: `${issuer}/i`,
      signed,
      authentication: { method: 'tls_client_auth', clientId: 'api' },
    },
  })

const request = (token: string, proof: string, url = '/notes') => ({
  method: 'GET',
  url,
  headers: ['Authorization', `DPoP ${token}`, 'DPoP', proof],
})

/** Every function that reads untrusted input. */
export const targets: readonly Target[] = [
  {
    name: 'verify',
    run: (mutate) => verifier.verify(request(mutate(valid.token), mutate(valid.proof))),
  },
  {
    name: 'verify, other places',
    run: (mutate) =>
      verifier.verify({
        method: mutate('POST'),
        url: mutate(`/notes?access_token=${valid.token}`),
        headers: [mutate('Content-Type'), mutate('application/x-www-form-urlencoded')],
        body: mutate(`access_token=${valid.token}`),
      }),
  },
  {
    name: 'verify, signed by the issuer',
    run: (mutate) => {
      const [, claims = ''] = valid.token.split('.')
      const text = mutate(Buffer.from(claims, 'base64url').toString('latin1'))
      const header = { typ: 'at+jwt', alg: 'ES256', kid: 'k1' }
      return verifier.verify(request(signJws(issuerKey, header, text), mutate(valid.proof)))
    },
  },
  {
    name: 'verify, keys of the issuer',
    run: (mutate) =>
      issuerThatSends(mutate(JSON.stringify(jwks))).verify(request(valid.token, valid.proof)),
  },
  {
    name: 'verify, introspection',
    run: (mutate, random) => {
      const answer = { active: true, iss: issuer, aud: audience, cnf: { jkt }, exp: start + 60 }
      const claims = { iss: issuer, aud: 'api', token_introspection: answer }
      const header = { typ: 'token-introspection+jwt', alg: 'ES256', kid: 'k1' }
      const signed = random() < 0.5
      const text = signed ? signJws(issuerKey, header, claims) : JSON.stringify(answer)
      return asking(mutate(text), signed).verify(request(valid.token, valid.proof))
    },
  },
  {
    name: 'verifyDPoPProof',
    run: (mutate) => library.verifyDPoPProof(mutate(valid.proof), expected),
  },
  {
    name: 'ProofKeys.remember',
    run: (mutate) => new library.ProofKeys(10).remember(mutate(valid.proof)),
  },
  {
    name: 'verifyIdToken',
    run: (mutate) => idTokens.verifyIdToken(mutate(idToken), { nonce: 'n', jkt }),
  },
  {
    name: 'parseConfirmation',
    run: (mutate) => {
      const text = mutate(JSON.stringify({ jkt }))
      let cnf: unknown = text
      try {
        cnf = JSON.parse(text)
      } catch {}
      return library.parseConfirmation(cnf)
    },
  },
  { name: 'nonces', run: (mutate) => nonces.accepts(mutate(nonces.current(start)), start) },
  {
    name: 'readClientCertificateHeader',
    run: (mutate, random) => {
      const { certificateHeaderFormats: formats } = library
      const format = formats[Math.floor(random() * formats.length)] ?? 'envoy'
      const fields = ['client-cert', 'x-ssl-cert', 'x-ssl-client-der', 'x-forwarded-client-cert']
      const headers = fields.flatMap((field) => [field, mutate(certificateText)])
      return library.readClientCertificateHeader(headers, { trusted: true, format })
    },
  },
  {
    name: 'verifyTokenBinding',
    run: (mutate) => verifyTokenBinding(mutate(bound), { negotiated: 'ecdsap256', ekm }),
  },
  {
    name: 'token binding headers',
    run: (mutate) => {
      parseTokenBindingId(mutate(id))
      const provided = ['Sec-Provided-Token-Binding-ID', mutate(id)]
      const other = ['Sec-Other-Token-Binding-ID', mutate(`07.${id},08.${id}`)]
      return readTokenBindingHeaders([...provided, ...other], { trusted: true })
    },
  },
  {
    name: 'token-bound login',
    run: (mutate) => {
      const proof = { provided: { id: mutate(id), tbh: '', keyParameters: 'ecdsap256' } } as const
      return finishTokenBoundLogin(beginTokenBoundLogin(proof).browserId, proof)
    },
  },
  {
    name: 'verifyDbscRegistration',
    run: (mutate) => verifyDbscRegistration(mutate(registrationProof()), dbscExpected),
  },
  {
    name: 'verifyDbscRefresh',
    run: (mutate) => verifyDbscRefresh(mutate(refreshProof()), dbscKey, dbscExpected),
  },
  { name: 'parseDbscHeader', run: (mutate) => parseDbscHeader(mutate('"a";b=c')) },
  {
    name: 'DbscSessions',
    run: (mutate, random) => {
      dbsc.provenAt('s', mutate('__Host-bound=1.a.b; x=y'))
      return dbsc.handle({
        method: 'POST',
        path: random() < 0.5 ? '/dbsc/registration' : '/dbsc/refresh',
        header: (name) => mutate(name.endsWith('id') ? '"s"' : registrationProof()),
        session: () => undefined,
      })
    },
  },
]

/** What the functions say that they throw at others' mistakes. */
function isExpected(error: unknown): boolean {
  return (
    error instanceof VerifyError ||
    error instanceof TokenBindingError ||
    error instanceof library.ClientCertificateError
  )
}

/** What a run has seen: how often each target accepted and refused. */
export type FuzzReport = Readonly<Record<string, { accepted: number; refused: number }>>

/**
 * Gives each target its share of `runs` mutated inputs.
 *
 * @throws Error that names the target and the seed of the input that broke it.
 */
export async function fuzz(
  runs: number,
  seed: number,
  onProgress: (done: number) => void = () => {},
): Promise<FuzzReport> {
  const report: Record<string, { accepted: number; refused: number }> = {}
  for (let done = 0; done < runs; done += 1) {
    const target = targets[done % targets.length] as Target
    const counts = report[target.name] ?? { accepted: 0, refused: 0 }
    report[target.name] = counts
    const own = Math.imul(seed + done, 0x9e3779b1)
    const random = randomFrom(own)
    try {
      await target.run(mutator(random), random)
      counts.accepted += 1
    } catch (error) {
      if (!isExpected(error)) {
        throw new Error(`${target.name} broke at --seed ${seed} after ${done} runs`, {
          cause: error,
        })
      }
      counts.refused += 1
    }
    if (done % 1000 === 0) onProgress(done)
  }
  return report
}
