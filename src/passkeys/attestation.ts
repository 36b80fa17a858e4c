/**
 * Which models of authenticators may be used, where an operator limits them. A model is known by the
 * AAGUID that its maker has certified: in the attestation certificate, which must lead to a root of
 * the operator. What authenticator data alone says of the model is a claim of the user.
 *
 * Where models are not limited, attestation statements are thrown away unread: nobody asked for
 * them, and their certificates may name hosts that a verifier is to ask for revocation lists.
 */
import { X509Certificate } from 'node:crypto'
import {
  decodeAttestationObject,
  isoCBOR,
  parseAuthenticatorData,
} from '@simplewebauthn/server/helpers'
import {
  isCurrent,
  isIssuedBy,
  isStrong,
  mayIssue,
  parseUnderstood,
} from '../certificates/path-rules.ts'

export interface AttestationPolicy {
  /** In lower case, with hyphens. */
  readonly aaguids: readonly string[]
  readonly roots: readonly X509Certificate[]
}

/** Why an attestation does not show that a passkey is of a listed model, for the operator. */
export type AttestationRefusal =
  /** The format `none`, or one without a certificate: the passkey vouches for itself. */
  | 'not_attested'
  /** The certificates of this format name no model. */
  | 'format'
  /** Expired, weak, in another order, incomplete, or of another authority. */
  | 'untrusted'
  /** The certificate names no model, or another than the authenticator data. */
  | 'model'
  | 'not_listed'

/**
 * The formats whose certificates name the model (WebAuthn Level 3 sections 8.2.1 and 8.3.1). The
 * library asks no other host about these, as it has no roots for them.
 */
const formats = ['packed', 'tpm']

/** A leaf, and more authorities than any maker has. */
const mostCertificates = 5

/** id-fido-gen-ce-aaguid (WebAuthn Level 3 section 8.2.1). */
const modelExtension = '1.3.6.1.4.1.45724.1.1.4'

/**
 * Whether an attestation object is of a listed model. Not checked is what only the format knows: the
 * signature of the statement, and the other rules for its certificate.
 *
 * @param encoded base64url.
 * @param now milliseconds since the epoch.
 * @throws what the parsers throw, where it is no attestation object.
 */
export function attestationRefusal(
  encoded: string,
  { aaguids, roots }: AttestationPolicy,
  now: number,
): AttestationRefusal | undefined {
  const object = decodeAttestationObject(bytesOf(encoded))
  const format = object.get('fmt')
  const certificates = object.get('attStmt').get('x5c') ?? []
  if (certificates.length === 0) return 'not_attested'
  if (!formats.includes(format)) return 'format'
  if (certificates.length > mostCertificates) return 'untrusted'
  const path = certificates.map((der) => new X509Certificate(der))
  if (!leadsToRoot(path, roots, now)) return 'untrusted'
  const [leaf] = path
  const { aaguid } = parseAuthenticatorData(object.get('authData'))
  const model = leaf && modelOf(leaf)
  if (!model || !aaguid || !model.equals(aaguid)) return 'model'
  return aaguids.includes(uuidOf(model)) ? undefined : 'not_listed'
}

/** The same object with the statement of the format `none` (section 8.7). */
export function withoutStatement(encoded: string): string {
  const authData = decodeAttestationObject(bytesOf(encoded)).get('authData')
  const members: [string, string | Uint8Array | Map<string, string>][] = [
    ['fmt', 'none'],
    ['attStmt', new Map<string, string>()],
    ['authData', authData],
  ]
  return Buffer.from(isoCBOR.encode(new Map(members))).toString('base64url')
}

/** Each certificate has issued the one before it, and a root the last (RFC 5280 section 6.1). */
function leadsToRoot(
  path: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  now: number,
): boolean {
  for (const [place, certificate] of path.entries()) {
    if (!isCurrent(certificate, now) || !isStrong(certificate)) return false
    if (!parseUnderstood(certificate)) return false
    if (place > 0 && !mayIssue(certificate, place - 1)) return false
    const isRooted = (root: X509Certificate) =>
      isCurrent(root, now) && mayIssue(root, place) && isIssuedBy(certificate, root)
    if (roots.some(isRooted)) return true
    const issuer = path[place + 1]
    if (!issuer || !isIssuedBy(certificate, issuer)) return false
  }
  return false
}

/** An octet string of sixteen bytes, in DER. */
function modelOf(leaf: X509Certificate): Buffer | undefined {
  const extension = parseUnderstood(leaf)?.getExtension(modelExtension)
  const der = extension && Buffer.from(extension.value)
  const isModel = der?.length === 18 && der[0] === 4 && der[1] === 16
  return isModel ? der.subarray(2) : undefined
}

const bytesOf = (encoded: string) => new Uint8Array(Buffer.from(encoded, 'base64url'))

function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
