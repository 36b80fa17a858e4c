/**
 * For authorization servers: the parts of the verifier, for endpoints that check a proof before
 * there is a token.
 *
 * @module
 */

export { answerTo } from './answer.ts'
export { challengesFor } from './challenge.ts'
export { type Credential, headerValues, readCredential } from './credentials.ts'
export { readDPoPHeader } from './dpop.ts'
export { decodeBase64url } from './lib/base64url.ts'
export { constantTimeEqual } from './lib/equal.ts'
export { isObject, maxJsonDepth, parseJson, parseJsonObject } from './lib/json.ts'
export { importPublicJwk } from './lib/jwk.ts'
export { decodeJson, type ParsedJwt, parseJwt } from './lib/jwt.ts'
export { isStrongKey } from './lib/key-strength.ts'
export { isSafeExponent } from './lib/rsa-exponent.ts'
export { suitsAlgorithm, supportedAlgorithms, verifySignature } from './lib/signature.ts'
