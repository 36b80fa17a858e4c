/**
 * What a token is bound to: its `cnf` claim (RFC 7800), read so that nothing is overlooked.
 *
 * RFC 7800 section 3.1 lets a recipient ignore members it does not understand. Then a token whose
 * only binding is unknown here would pass as a bearer token, so unknown members refuse the token
 * instead, except for a short list of harmless ones.
 */
import { hash, type X509Certificate } from 'node:crypto'
import { VerifyError } from './errors.ts'
import { decodeBase64url } from './lib/base64url.ts'
import { constantTimeEqual } from './lib/equal.ts'
import { isObject } from './lib/json.ts'
import { hasWeakKey } from './lib/key-strength.ts'

/** How possession of a key is shown: a DPoP proof, a TLS client certificate, Token Binding. */
export type BindingMethod = 'dpop' | 'mtls' | 'token-binding'

/** One member of `cnf` that must be proven; every value is a base64url SHA-256 hash. */
export type Confirmation =
  /** RFC 9449 section 6.1: JWK thumbprint of the DPoP key. */
  | Readonly<{ method: 'dpop'; jkt: string }>
  /** RFC 8705 section 3.1: hash of the DER certificate. */
  | Readonly<{ method: 'mtls'; thumbprint: string }>
  /** OpenID Connect Token Bound Authentication section 2: hash of the Token Binding ID. */
  | Readonly<{ method: 'token-binding'; tbh: string }>

/**
 * Members that say something about the binding without being one. `kc-jkt-type` is what Keycloak
 * puts beside `jkt`.
 */
export const harmlessMembers: readonly string[] = Object.freeze(['kc-jkt-type'])

/**
 * Reads `cnf`. An absent claim gives an empty list: that token is a bearer token. Anything that is
 * there and cannot be enforced is refused.
 *
 * It does NOT check any proof.
 *
 * @throws {@link VerifyError} `confirmation_malformed`, `confirmation_unknown`
 */
export function parseConfirmation(
  cnf: unknown,
  harmless: readonly string[] = harmlessMembers,
): readonly Confirmation[] {
  if (cnf === undefined) return Object.freeze([])
  if (!isObject(cnf)) throw new VerifyError('confirmation_malformed', 'cnf must be an object')
  const confirmations: Confirmation[] = []
  for (const [member, value] of Object.entries(cnf)) {
    if (member === 'jkt') {
      confirmations.push(Object.freeze({ method: 'dpop', jkt: sha256Member(member, value) }))
    } else if (member === 'x5t#S256') {
      confirmations.push(Object.freeze({ method: 'mtls', thumbprint: sha256Member(member, value) }))
    } else if (member === 'tbh') {
      confirmations.push(
        Object.freeze({ method: 'token-binding', tbh: sha256Member(member, value) }),
      )
    } else if (!harmless.includes(member)) {
      throw new VerifyError('confirmation_unknown', 'cnf has a member that cannot be enforced', {
        cause: { member },
      })
    }
  }
  if (confirmations.length === 0) {
    throw new VerifyError('confirmation_unknown', 'cnf has no member that can be enforced')
  }
  return Object.freeze(confirmations)
}

/** A certificate as the TLS layer knows it: its DER bytes, or their hash, with the certificate if it is there. */
export type CertificateFact =
  | Uint8Array
  | Readonly<{ thumbprint: string; certificate?: X509Certificate }>

/** A Token Binding that has been verified for this connection (RFC 8471 section 4.2). */
export type TokenBindingFact = Readonly<{
  /** The provided Token Binding ID, as received, undecoded any further. */
  providedId: Uint8Array
}>

/**
 * Compares `x5t#S256` with the certificate of this connection (RFC 8705 section 3).
 *
 * An RSA key under 2048 bits, or with an exponent under 65537, is one that others can compute: its
 * certificate proves nothing. Of a certificate that is given by its hash alone the key is not seen.
 *
 * It does NOT validate the certificate's chain (section 6.2 does not need it), and it takes the
 * fact as established: never pass a certificate from a header that just anyone may send.
 *
 * @throws {@link VerifyError} `certificate_missing`, `certificate_mismatch`, `certificate_weak`
 */
export function confirmCertificate(
  thumbprint: string,
  certificate: CertificateFact | undefined,
): void {
  if (certificate === undefined) {
    throw new VerifyError('certificate_missing', 'Access token needs its TLS client certificate')
  }
  const isDer = certificate instanceof Uint8Array
  if (!constantTimeEqual(isDer ? digest(certificate) : certificate.thumbprint, thumbprint)) {
    throw new VerifyError('certificate_mismatch', 'Access token is bound to another certificate')
  }
  if (hasWeakKey(thumbprint, isDer ? certificate : certificate.certificate)) {
    throw new VerifyError(
      'certificate_weak',
      'Access token is bound to a certificate with a weak key',
    )
  }
}

/**
 * Compares `tbh` with the provided Token Binding ID of this connection (RFC 8471 section 5).
 *
 * It does NOT verify the Token Binding message: that is the fact's precondition.
 *
 * @throws {@link VerifyError} `token_binding_missing`, `token_binding_mismatch`
 */
export function confirmTokenBinding(tbh: string, tokenBinding: TokenBindingFact | undefined): void {
  if (tokenBinding === undefined) {
    throw new VerifyError('token_binding_missing', 'Access token needs its Token Binding')
  }
  if (!constantTimeEqual(digest(tokenBinding.providedId), tbh)) {
    throw new VerifyError(
      'token_binding_mismatch',
      'Access token is bound to another Token Binding',
    )
  }
}

/** Certificates and IDs live as long as their connection, and so do their hashes. */
const digests = new WeakMap<Uint8Array, string>()

function digest(bytes: Uint8Array): string {
  let known = digests.get(bytes)
  if (known === undefined) {
    known = hash('sha256', bytes, 'base64url')
    digests.set(bytes, known)
  }
  return known
}

function sha256Member(member: string, value: unknown): string {
  if (typeof value !== 'string' || decodeBase64url(value)?.length !== 32) {
    throw new VerifyError('confirmation_malformed', 'cnf member must be a base64url SHA-256 hash', {
      cause: { member },
    })
  }
  return value
}
