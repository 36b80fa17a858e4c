/**
 * Refuses every OAuth access token that comes without proof of the key it is bound to.
 *
 * @module
 */
export type { AccessToken, AccessTokenClaims } from './access-token.ts'
export type { ClientAuthentication } from './client-authentication.ts'
export {
  type CertificateHeaderFormat,
  type ClientCertificate,
  ClientCertificateError,
  type ClientCertificateErrorCode,
  certificateHeaderFormats,
  type ForwardedCertificateOptions,
  readClientCertificateHeader,
  socketCertificate,
} from './client-certificate.ts'
export {
  type BindingMethod,
  type CertificateFact,
  type Confirmation,
  confirmCertificate,
  confirmTokenBinding,
  parseConfirmation,
  type TokenBindingFact,
} from './confirmation.ts'
export type { RequestBody, RequestHeaders, TokenLocation } from './credentials.ts'
export type { DecryptionOptions } from './decryption.ts'
export {
  type DPoPExpectation,
  type DPoPProof,
  ProofKeys,
  replayKey,
  verifyDPoPProof,
} from './dpop.ts'
export { createDPoPNonces, type DPoPNonceOptions, type DPoPNonces } from './dpop-nonce.ts'
export {
  type OAuthError,
  VerifyError,
  type VerifyErrorCode,
  type VerifyErrorDetails,
  verifyErrorCodes,
} from './errors.ts'
export type { EventListener, TokenIdentity, VerifyEvent } from './events.ts'
export {
  createIdTokenVerifier,
  type IdTokenExpectation,
  type IdTokenOptions,
  type IdTokenVerifier,
  type VerifiedIdToken,
} from './id-token.ts'
export type { IssuerKeyOptions } from './issuer-keys.ts'
export type { Fetch } from './lib/fetch-json.ts'
export { type MetadataOptions, metadataUrl, type ProtectedResourceMetadata } from './metadata.ts'
export type {
  DPoPOptions,
  IntrospectionOptions,
  IssuerOptions,
  PolicyOptions,
  VerifierOptions,
} from './options.ts'
export {
  createMemoryReplayStore,
  type MemoryReplayOptions,
  type MemoryReplayStore,
  type ReplayOutcome,
  type ReplayStore,
} from './replay.ts'
export type { Requirements } from './requirements.ts'
export { createVerifier, type Verified, type Verifier, type VerifyRequest } from './verifier.ts'
