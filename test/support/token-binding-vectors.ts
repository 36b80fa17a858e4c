import { createHash, createPublicKey, type JsonWebKey, verify } from 'node:crypto'
import {
  decodeTokenBindingMessage,
  parseTokenBindingMessage,
} from '../../packages/verify/lib/token-binding-message.ts'
import {
  type KeyParameters,
  TokenBindingError,
  type TokenBindingProof,
  verifyTokenBinding,
} from '../../packages/verify/token-binding.ts'

/*
 * Decides every entry of a file of vectors. The file comes from someone else: each field is unknown
 * until it was looked at, and an entry that cannot be understood fails with a reason.
 */

/** true: accepted; false: refused; null: not decidable from what the file gives, or not expected. */
export type Decision = boolean | null

export interface Row {
  readonly id: string
  readonly expected: Decision
  readonly got: Decision
  readonly reason: string
}

export interface Report {
  /** One row for each Token Binding message. */
  readonly rows: readonly Row[]
  /** The sections `tbh`, `pkce_token_binding` and `id_tokens`, which refer to the messages. */
  readonly related: readonly Row[]
  /** The rows, of both kinds, that are not as the file expects. */
  readonly failed: ReadonlySet<Row>
}

interface Outcome {
  readonly row: Row
  readonly passed: boolean
}

type Json = Readonly<Record<string, unknown>>

/** The file is not a file of vectors. */
export class VectorsError extends Error {
  override name = 'VectorsError'
}

export function decideVectors(file: unknown): Report {
  if (!isObject(file) || !Array.isArray(file.token_binding)) {
    throw new VectorsError('expected a JSON object with an array "token_binding"')
  }
  const proofs = new Map<string, TokenBindingProof>()
  const messages = file.token_binding.map((entry, index) => decideMessage(entry, index, proofs))
  const related = [
    ...section(file, 'tbh').map((entry, index) => decideTbh(entry, index, proofs)),
    ...section(file, 'pkce_token_binding').map((entry, index) => decidePkce(entry, index, proofs)),
    ...section(file, 'id_tokens').map((entry, index) => decideIdToken(entry, index, proofs)),
  ]
  return {
    rows: messages.map(({ row }) => row),
    related: related.map(({ row }) => row),
    failed: new Set(
      [...messages, ...related].filter(({ passed }) => !passed).map(({ row }) => row),
    ),
  }
}

// Messages

function decideMessage(
  entry: unknown,
  index: number,
  proofs: Map<string, TokenBindingProof>,
): Outcome {
  if (!isObject(entry)) return odd(`token_binding[${index}]`, null, 'the entry is not an object')
  const id = typeof entry.id === 'string' ? entry.id : `token_binding[${index}]`
  const { valid = null, message_b64u: message } = entry

  if (valid !== null && typeof valid !== 'boolean') {
    return odd(id, null, '"valid" is neither true, false nor null')
  }
  if (typeof message !== 'string') return odd(id, valid, '"message_b64u" is not a string')
  const negotiated = readNegotiated(entry.negotiated_key_parameters)
  if (negotiated === 'odd') {
    return odd(id, valid, '"negotiated_key_parameters" is neither null, a number nor a known name')
  }
  const ekm = readEkm(entry)
  if (ekm === 'odd') return odd(id, valid, '"ekm_hex" is neither null nor hexadecimal')

  const { got, reason, proof } = decide(message, negotiated, ekm)
  if (proof === undefined) {
    return { row: { id, expected: valid, got, reason }, passed: valid === null || valid === got }
  }
  proofs.set(id, proof)
  const difference = differenceOfIds(entry, proof)
  return {
    row: { id, expected: valid, got, reason: difference ?? reason },
    passed: (valid === null || valid === got) && difference === undefined,
  }
}

function decide(
  message: string,
  negotiated: KeyParameters | 'unknown' | undefined,
  ekm: Buffer | undefined,
): { got: Decision; reason: string; proof?: TokenBindingProof } {
  // No server of ours is on such a connection, so it accepts nothing there.
  if (negotiated === 'unknown') return { got: false, reason: 'unknown key parameters negotiated' }
  if (ekm && ekm.length !== 32)
    return { got: false, reason: `an EKM of ${ekm.length} bytes, not 32` }
  try {
    if (ekm === undefined && negotiated !== undefined) {
      parseTokenBindingMessage(decodeTokenBindingMessage(message))
      return { got: null, reason: 'well-formed; no EKM given, so no signature can be checked' }
    }
    const connection = { negotiated, ekm: ekm ?? Buffer.alloc(32) }
    const proof = verifyTokenBinding(message, connection)
    return { got: true, reason: describe(proof), proof }
  } catch (error) {
    if (!(error instanceof TokenBindingError)) throw error
    return { got: false, reason: `${error.code}: ${error.message}` }
  }
}

function describe({ provided, referred, other }: TokenBindingProof): string {
  const parts = [`provided ${provided.keyParameters}`]
  if (referred === 'unsupported') parts.push('a referred key of unknown kind, which binds nothing')
  else if (referred) parts.push(`referred ${referred.keyParameters}`)
  if (other.length > 0) parts.push(`${other.length} of other types`)
  return parts.join(', ')
}

/** What an accepted message identifies, against what the file says of it; absent is not compared. */
function differenceOfIds(entry: Json, { provided, referred }: TokenBindingProof) {
  const known = referred === 'unsupported' ? undefined : referred
  const comparisons: [name: string, got: string | null][] = [
    ['expected_provided_id', provided.id],
    ['expected_provided_tbh', provided.tbh],
  ]
  // There is no usable ID of a kind that cannot be checked: the file's is what a parser sees.
  if (referred !== 'unsupported') {
    comparisons.push(['expected_referred_id', known?.id ?? null])
    comparisons.push(['expected_referred_tbh', known?.tbh ?? null])
  }
  for (const [name, got] of comparisons) {
    const expected = entry[name]
    // A message that is accepted has a provided ID: null can only mean that it is not given.
    const given = expected !== undefined && !(expected === null && name.includes('provided'))
    if (given && expected !== got) return `another ID than ${name}`
  }
  return undefined
}

const names: readonly KeyParameters[] = ['rsa2048_pkcs1.5', 'rsa2048_pss', 'ecdsap256']

function readNegotiated(value: unknown): KeyParameters | 'unknown' | undefined | 'odd' {
  if (value === null || value === undefined) return undefined
  const named = names.find((name, number) => value === name || value === number)
  return named ?? (Number.isInteger(value) ? 'unknown' : 'odd')
}

function readEkm({ ekm_hex: hex, ekm_b64u: base64url }: Json): Buffer | undefined | 'odd' {
  if (hex === undefined && typeof base64url === 'string') return Buffer.from(base64url, 'base64url')
  if (hex === undefined || hex === null) return undefined
  if (typeof hex !== 'string' || !/^([0-9a-f]{2})*$/i.test(hex)) return 'odd'
  return Buffer.from(hex, 'hex')
}

// The sections that refer to messages

type Proofs = ReadonlyMap<string, TokenBindingProof>

/** draft-ietf-oauth-token-binding-08 section 3.4: a `tbh` and the message it comes from. */
function decideTbh(entry: unknown, index: number, proofs: Proofs): Outcome {
  const id = `tbh[${index}]`
  if (!isObject(entry)) return odd(id, null, 'the entry is not an object')
  const vectors = typeof entry.vector === 'string' ? entry.vector.split('/') : []
  const proof = findProof(vectors[0], proofs)
  if (proof === undefined)
    return undecided(id, entry.matches, 'no accepted message to compare with')

  const wanted = /^referred/.test(String(entry.binding)) ? proof.referred : proof.provided
  const got = wanted !== undefined && wanted !== 'unsupported' && wanted.tbh === entry.tbh
  return related(id, entry.matches, got, 'SHA-256 of the Token Binding ID')
}

/** RFC 7636 section 4.6 and draft-ietf-oauth-token-binding-08 section 5. */
function decidePkce(entry: unknown, index: number, proofs: Proofs): Outcome {
  const id = `pkce_token_binding[${index}]`
  if (!isObject(entry)) return odd(id, null, 'the entry is not an object')
  const { code_challenge: challenge, code_verifier: verifier, matches } = entry

  switch (entry.code_challenge_method) {
    case 'S256': {
      const got = createHash('sha256').update(String(verifier)).digest('base64url') === challenge
      return related(id, matches, got, 'S256: SHA-256 of the verifier')
    }
    case 'TB-S256': {
      const proof = findProof(entry.token_request_vector, proofs)
      if (!proof) return undecided(id, matches, 'no accepted message of the token request')
      const got = verifier === 'provided_tb' && proof.provided.tbh === challenge
      return related(id, matches, got, 'TB-S256: SHA-256 of the provided ID')
    }
    case 'referred_tb': {
      const authorization = findProof(entry.authorization_request_vector, proofs)
      const callback = findProof(entry.callback_vector, proofs)
      if (!authorization || !callback) return undecided(id, matches, 'no accepted messages')
      const { referred } = authorization
      const got =
        challenge === 'referred_tb' &&
        referred !== undefined &&
        referred !== 'unsupported' &&
        referred.id === verifier &&
        callback.provided.id === verifier
      return related(id, matches, got, 'referred_tb: the referred ID, seen twice')
    }
    default:
      return odd(id, null, '"code_challenge_method" is not known')
  }
}

/** OpenID Connect Token Bound Authentication section 2: `cnf.tbh` and the ID seen at the client. */
function decideIdToken(entry: unknown, index: number, proofs: Proofs): Outcome {
  const id = `id_tokens[${index}]`
  if (!isObject(entry)) return odd(id, null, 'the entry is not an object')
  const proof = findProof(entry.provided_at_rp, proofs)
  if (!proof) return undecided(id, entry.signature_valid, 'no accepted message at the client')
  if (typeof entry.id_token !== 'string' || !isObject(entry.jwk)) {
    return odd(id, null, '"id_token" or "jwk" is missing')
  }
  try {
    const [header = '', payload = '', signature = ''] = entry.id_token.split('.')
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const tbh = isObject(claims) && isObject(claims.cnf) ? claims.cnf.tbh : undefined
    const key = createPublicKey({ key: entry.jwk as JsonWebKey, format: 'jwk' })
    const signed = verify(
      key.asymmetricKeyDetails?.namedCurve === 'secp521r1' ? 'sha512' : 'sha256',
      Buffer.from(`${header}.${payload}`),
      key.asymmetricKeyType === 'ec' ? { key, dsaEncoding: 'ieee-p1363' } : key,
      Buffer.from(signature, 'base64url'),
    )
    const got = signed && tbh === proof.provided.tbh
    return related(id, entry.signature_valid, got, 'signature, and cnf.tbh at the client')
  } catch {
    return odd(id, null, 'the ID token or its key cannot be read')
  }
}

function findProof(name: unknown, proofs: Proofs): TokenBindingProof | undefined {
  return typeof name === 'string' ? proofs.get(name.trim()) : undefined
}

function section(file: Json, name: string): unknown[] {
  const entries = file[name]
  return Array.isArray(entries) ? entries : []
}

// Rows

function related(id: string, matches: unknown, got: boolean, reason: string): Outcome {
  const expected = matches === null ? null : matches !== false
  return { row: { id, expected, got, reason }, passed: expected === null || expected === got }
}

function undecided(id: string, matches: unknown, reason: string): Outcome {
  const expected = typeof matches === 'boolean' ? matches : null
  return { row: { id, expected, got: null, reason }, passed: expected === null }
}

function odd(id: string, expected: Decision, reason: string): Outcome {
  return { row: { id, expected, got: null, reason }, passed: false }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
