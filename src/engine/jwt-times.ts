/// <reference path="./engine-internals.d.ts" />
/*
 * The engine judges the times of JWTs and proofs by the clock of its node, which may be wrong. They
 * are judged here by the clock of the database, and the engine has to tolerate its own clock.
 */
import type Provider from 'oidc-provider'
import { get as internalsOf } from 'oidc-provider/lib/helpers/weak_cache.js'
import type { ProofWindow } from '../bindings/binding.ts'
import { isRecent } from '../bindings/dpop.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { clockSkewOf } from './clock-skew.ts'

/** The times of a JWT, as someone else has written them. */
export interface JwtTimes {
  readonly exp?: unknown
  readonly nbf?: unknown
  readonly iat?: unknown
}

/**
 * Whether a JWT is good at this moment. Members that are no numbers are the engine's to refuse.
 *
 * @param now milliseconds since the epoch.
 */
export function isCurrentJwt(
  { exp, nbf, iat }: JwtTimes,
  now: number,
  toleranceS: number,
): boolean {
  const seconds = now / 1000
  if (typeof exp === 'number' && exp + toleranceS <= seconds) return false
  return ![nbf, iat].some((time) => typeof time === 'number' && time > seconds + toleranceS)
}

/** The longest that a request object may be good for, and that it may be old, in seconds. */
const longestRequestS = 60 * 60

/**
 * Whether a signed request says from when and until when it is good, and that is an hour or less
 * (FAPI 2.0 Message Signing section 5.3.1): anyone who has read it could send it again until then.
 *
 * @param now milliseconds since the epoch.
 */
export function isShortRequest({ exp, nbf }: JwtTimes, now: number): boolean {
  if (typeof exp !== 'number' || typeof nbf !== 'number') return false
  return exp <= nbf + longestRequestS && nbf >= now / 1000 - longestRequestS
}

/**
 * Whether a DPoP proof says that it was made at this moment. Nothing of it is verified here.
 *
 * @param now milliseconds since the epoch.
 */
export function isRecentProof(
  proof: string | undefined,
  now: number,
  window: ProofWindow,
): boolean {
  const skew = clockSkewOf(proof, now)
  return skew === undefined || isRecent(skew, 0, window)
}

/** Lets the engine accept what its own clock would refuse, by as much as that clock is wrong. */
export function tolerateOwnClock(
  engine: Provider,
  { aheadS }: EngineTimes,
  toleranceS: number,
): void {
  Object.defineProperty(internalsOf(engine).configuration, 'clockTolerance', {
    get: () => toleranceS + Math.abs(aheadS()),
  })
}
