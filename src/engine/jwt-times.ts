/// <reference path="./engine-internals.d.ts" />
/*
 * The engine judges the times of JWTs and proofs by the clock of its node, which may be wrong. They
 * are judged here by the clock of the database, and the engine has to tolerate its own clock.
 */
import type Provider from 'oidc-provider'
import { get as internalsOf } from 'oidc-provider/lib/helpers/weak_cache.js'
import { isRecent } from '../bindings/dpop.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import { clockSkewOf } from './clock-skew.ts'

/** Seconds by which the clock of a client may differ from ours. */
export const jwtToleranceS = 5

/** The times of a JWT, as someone else has written them. */
export interface JwtTimes {
  readonly exp?: unknown
  readonly nbf?: unknown
}

/**
 * Whether a JWT is good at this moment. Members that are no numbers are the engine's to refuse.
 *
 * @param now milliseconds since the epoch.
 */
export function isCurrentJwt({ exp, nbf }: JwtTimes, now: number): boolean {
  const seconds = now / 1000
  if (typeof exp === 'number' && exp + jwtToleranceS <= seconds) return false
  return !(typeof nbf === 'number' && nbf > seconds + jwtToleranceS)
}

/**
 * Whether a DPoP proof says that it was made at this moment. Nothing of it is verified here.
 *
 * @param now milliseconds since the epoch.
 */
export function isRecentProof(proof: string | undefined, now: number, windowS: number): boolean {
  const skew = clockSkewOf(proof, now)
  return skew === undefined || isRecent(skew, 0, windowS)
}

/** Lets the engine accept what its own clock would refuse, by as much as that clock is wrong. */
export function tolerateOwnClock(engine: Provider, { aheadS }: EngineTimes): void {
  Object.defineProperty(internalsOf(engine).configuration, 'clockTolerance', {
    get: () => jwtToleranceS + Math.abs(aheadS()),
  })
}
