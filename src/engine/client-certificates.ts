import { createPublicKey, type JsonWebKey, X509Certificate } from 'node:crypto'
import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { currentCertificate } from '../bindings/mtls.ts'
import type { ClientAuthorities, UntrustedReason } from '../certificates/client-authorities.ts'
import {
  isSubjectValue,
  type SubjectProperty,
  subjectMatches,
  subjectProperties,
} from '../certificates/subject.ts'
import { bindingMethodOf } from '../clients/binding-method.ts'
import type { Edge } from '../http/edge.ts'

export interface ClientCertificatesOptions {
  readonly edge: Pick<Edge, 'proofsOf'>
  /** Undefined when no authority is configured: then `tls_client_auth` is not offered. */
  readonly authorities: ClientAuthorities | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly onUntrusted: (ctx: KoaContextWithOIDC, reason: UntrustedReason) => void
}

/** The engine's part of RFC 8705, with certificates from the edge. */
export function mtlsFeature({ edge, authorities, now, onUntrusted }: ClientCertificatesOptions) {
  return {
    enabled: true,
    certificateBoundAccessTokens: true,
    selfSignedTlsClientAuth: true,
    tlsClientAuth: authorities !== undefined,
    getCertificate: (ctx: KoaContextWithOIDC) => currentCertificate(edge.proofsOf(ctx), now()),
    // TLS accepts certificates of any authority and of none: the path is checked here, for the
    // clients that registered a name, and for no others.
    certificateAuthorized(ctx: KoaContextWithOIDC): boolean {
      const { certificate } = edge.proofsOf(ctx)
      if (!certificate || !authorities) return false
      const reason = authorities.check(certificate, now())
      if (reason) onUntrusted(ctx, reason)
      return reason === undefined
    },
    certificateSubjectMatches(
      ctx: KoaContextWithOIDC,
      property: SubjectProperty,
      expected: string,
    ): boolean {
      const { certificate } = edge.proofsOf(ctx)
      return (
        certificate !== undefined && subjectMatches(certificate.certificate, property, expected)
      )
    },
  }
}

/**
 * Checks what the engine leaves unchecked of the certificates in client metadata.
 *
 * @param isConfigured whether this server sees certificates of clients.
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkCertificateMetadata(metadata: ClientMetadata, isConfigured: boolean): void {
  if (!isConfigured && bindingMethodOf(metadata) === 'mtls') {
    throw new errors.InvalidClientMetadata(
      'binding_method mtls needs HOLDFAST_MTLS_PORT or HOLDFAST_CLIENT_CERT_FORMAT',
    )
  }
  for (const property of subjectProperties) {
    const value = metadata[property]
    if (value !== undefined && !isSubjectValue(property, value)) {
      throw new errors.InvalidClientMetadata(`${property} cannot be the name in a certificate`)
    }
  }
  if (metadata.token_endpoint_auth_method !== 'self_signed_tls_client_auth') return
  for (const { x5c, ...jwk } of metadata.jwks?.keys ?? []) {
    // RFC 7517 section 4.7: the key in the first certificate is the key.
    if (x5c !== undefined && !isKeyOf(x5c[0] ?? '', jwk)) {
      throw new errors.InvalidClientMetadata('x5c must begin with a certificate of its key')
    }
  }
}

/** Whether a certificate, in base64, is of a key. */
export function isKeyOf(certificate: string, jwk: object): boolean {
  try {
    const { publicKey } = new X509Certificate(Buffer.from(certificate, 'base64'))
    return publicKey.equals(createPublicKey({ format: 'jwk', key: jwk as JsonWebKey }))
  } catch {
    return false
  }
}
