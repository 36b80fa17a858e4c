/** What a resource asks of an accepted token: scopes (RFC 6750) and step-up (RFC 9470). */
import type { AccessTokenClaims } from './access-token.ts'
import type { ChallengeParameters } from './challenge.ts'
import { VerifyError } from './errors.ts'
import { checkNames, duration, namesOf } from './lib/check.ts'
import { isObject } from './lib/json.ts'

/** Requirements of one route; all that are named must hold. */
export type Requirements = Readonly<{
  /** Scopes the token must all have. */
  scopes?: readonly string[]
  /** Authentication context classes; the token must have one of them in `acr`. Best first. */
  acrValues?: readonly string[]
  /** Seconds since the user's last active authentication (`auth_time`), at most. */
  maxAge?: number
}>

const requirementNames = namesOf<Requirements>({ scopes: true, acrValues: true, maxAge: true })

/**
 * Requirements that mean something: a misspelt or empty one would let every token through.
 *
 * @throws TypeError that names the requirement.
 */
export function checkRequirements(requirements: Requirements): Requirements {
  checkNames('requirements', requirements, requirementNames)
  const { scopes, acrValues, maxAge } = requirements
  for (const [name, list] of Object.entries({ scopes, acrValues })) {
    if (list === undefined) continue
    if (!Array.isArray(list) || !list.every((each) => typeof each === 'string' && isOne(each))) {
      throw new TypeError(`${name} must be an array of strings without spaces`)
    }
  }
  if (maxAge !== undefined) duration('maxAge', maxAge, 0)
  return requirements
}

/** For a route that asks for something: at least one requirement. */
export function checkDemand(name: string, requirements: Requirements): Requirements {
  const { scopes = [], acrValues = [], maxAge } = checkRequirements(requirements)
  if (scopes.length + acrValues.length === 0 && maxAge === undefined) {
    throw new TypeError(`${name} needs at least one requirement`)
  }
  return requirements
}

/** The options of `stepUp`; a scope is not among them. */
export function checkStepUp(requirements: Pick<Requirements, 'acrValues' | 'maxAge'>) {
  if (isObject(requirements) && 'scopes' in requirements) {
    throw new TypeError('stepUp: "scopes" is not known')
  }
  return checkDemand('stepUp', requirements)
}

function isOne(text: string): boolean {
  return text !== '' && !/\s/.test(text)
}

/** A refusal, and what would have been enough. */
export type UnmetRequirement = Readonly<{ error: VerifyError; parameters: ChallengeParameters }>

/** Finds the first requirement that the claims do not meet; times in seconds. */
export function findUnmetRequirement(
  claims: AccessTokenClaims,
  { scopes = [], acrValues = [], maxAge }: Requirements,
  now: number,
  clockTolerance: number,
): UnmetRequirement | undefined {
  const granted = claims.scope?.split(' ') ?? []
  if (!scopes.every((scope) => granted.includes(scope))) {
    const error = new VerifyError('insufficient_scope', 'Access token lacks a scope')
    return { error, parameters: { scope: scopes.join(' ') } }
  }

  // RFC 9470 section 3. Both parameters are named, whichever was not met: the client asks once.
  const { acr, auth_time: authTime } = claims
  const acrMet = acrValues.length === 0 || (typeof acr === 'string' && acrValues.includes(acr))
  const ageMet =
    maxAge === undefined ||
    (typeof authTime === 'number' && authTime + maxAge + clockTolerance >= now)
  if (acrMet && ageMet) return undefined
  const message = acrMet
    ? 'More recent authentication is required'
    : 'A different authentication level is required'
  return {
    error: new VerifyError('insufficient_user_authentication', message),
    parameters: {
      ...(acrValues.length > 0 && { acr_values: acrValues.join(' ') }),
      ...(maxAge !== undefined && { max_age: String(maxAge) }),
    },
  }
}
