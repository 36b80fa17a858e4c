/**
 * What the engine does not check of the JWTs that clients sign: of client assertions and of request
 * objects. Their signatures are the engine's to verify.
 */
import { errors } from 'oidc-provider'
import { allowedAlgorithms, profileOf } from '../clients/profile.ts'
import { isCurrentJwt, isShortRequest, type JwtTimes } from './jwt-times.ts'
import { refusedFor } from './refusal-reason.ts'

/** The longest a client assertion may live, in seconds: its replay entry is kept for as long. */
const longestAssertionS = 10 * 60

/**
 * A client may be of a profile where the server is not.
 *
 * @throws the given error for an algorithm that the profile does not allow.
 */
export function checkAlgorithm(
  alg: unknown,
  client: unknown,
  Refusal: typeof errors.InvalidRequestObject | typeof errors.InvalidClientAuth,
): void {
  const { clientId: client_id, profile } = client as { clientId: string; profile?: string }
  if (allowedAlgorithms(profileOf({ client_id, profile }), [String(alg)]).length === 0) {
    throw new Refusal('the algorithm of this signature is not allowed by the profile of the client')
  }
}

/**
 * What the engine does not check of a client assertion, at the endpoints that are the engine's.
 *
 * @throws the engine's `invalid_client`.
 */
export function checkAssertion(
  claims: JwtTimes & { readonly aud?: unknown },
  {
    issuer,
    now,
    acceptsEndpointAudiences,
    clockToleranceS,
  }: {
    readonly issuer: string
    /** Milliseconds since the epoch. */
    readonly now: number
    readonly acceptsEndpointAudiences: boolean
    readonly clockToleranceS: number
  },
): void {
  // Endpoints as strings are the engine's to check.
  if (typeof claims.aud !== 'string' || (claims.aud !== issuer && !acceptsEndpointAudiences)) {
    throw refusedFor(
      'client_authentication',
      new errors.InvalidClientAuth('aud of the client assertion must be the issuer, as a string'),
    )
  }
  if (!isCurrentJwt(claims, now, clockToleranceS)) {
    throw new errors.InvalidClientAuth('the client assertion is expired or not valid yet')
  }
  if (!(Number(claims.exp) <= now / 1000 + longestAssertionS)) {
    throw refusedFor(
      'client_authentication',
      new errors.InvalidClientAuth('the client assertion is good for too long'),
    )
  }
}

/**
 * The times of a request object.
 *
 * @param options `now` in milliseconds since the epoch.
 * @throws the engine's `invalid_request_object`.
 */
export function checkRequestTimes(
  claims: JwtTimes,
  { now, clockToleranceS }: { now: number; clockToleranceS: number },
): void {
  if (isCurrentJwt(claims, now, clockToleranceS) && isShortRequest(claims, now)) return
  throw refusedFor(
    'request_object_time',
    new errors.InvalidRequestObject(
      'exp and nbf are required in the Request Object, which may be good for an hour',
    ),
  )
}
