/**
 * Refuses every OAuth access token that comes without proof of the key it is bound to.
 *
 * @module
 */
export type { AccessToken, AccessTokenClaims } from './access-token.ts'
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
export type {
  BindingMethod,
  CertificateFact,
  Confirmation,
  TokenBindingFact,
} from './confirmation.ts'
export type { RequestBody, RequestHeaders, TokenLocation } from './credentials.ts'
export {
  type DPoPExpectation,
  type DPoPProof,
  ProofKeys,
  replayKey,
  verifyDPoPProof,
} from './dpop.ts'
export {
  type OAuthError,
  VerifyError,
  type VerifyErrorCode,
  type VerifyErrorDetails,
  verifyErrorCodes,
} from './errors.ts'
export type { IssuerOptions, VerifierOptions } from './options.ts'
export {
  createMemoryReplayStore,
  type MemoryReplayOptions,
  type MemoryReplayStore,
  type ReplayOutcome,
  type ReplayStore,
} from './replay.ts'
export { createVerifier, type Verified, type Verifier, type VerifyRequest } from './verifier.ts'
