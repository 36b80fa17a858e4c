import type { BoundCredential } from '../bindings/binding.ts'
import { hasUsableGrant, isInTime, isUnused, sessionGoesOn, withAccount } from './checks.ts'
import { confirmationOf, type SignJwt } from './issue.ts'
import type { MachineRequest, Outcome } from './machine-request.ts'
import type { QuestionOptions } from './presented-token.ts'
import { clientOf, type FoundToken, type OwnClaims, readQuestion } from './presented-token.ts'
import { isRefusal } from './refusal.ts'
import type { TokenClient } from './token-request.ts'

/** The media type of RFC 9701. */
export const signedIntrospection = 'application/token-introspection+jwt'

export interface IntrospectionOptions extends QuestionOptions {
  readonly issuer: string
  readonly sign: SignJwt
}

/** RFC 7662: what a token is worth at this moment, for clients and APIs. */
export function createIntrospection(options: IntrospectionOptions) {
  const { issuer, sign } = options
  return async (request: MachineRequest): Promise<Outcome> => {
    const asked = await readQuestion(request, options)
    if ('result' in asked) return asked
    const { client, found } = asked
    const body = found && maySee(client, found) ? describe(found, issuer, request.now) : inactive
    if (!request.wantsSigned) return { client, result: { body } }
    const { now: iat } = request
    const claims = { token_introspection: body, iss: issuer, aud: client.clientId, iat }
    const algorithm = client.introspectionAlgorithm
    const signed = await sign(algorithm, 'token-introspection+jwt', claims)
    return { client, result: { body: signed, type: `${signedIntrospection}; charset=utf-8` } }
  }
}

const inactive = Object.freeze({ active: false })

/**
 * A client may ask about its own tokens. One that authenticates may ask about all of them, for it
 * may be an API, unless it has registered itself.
 */
function maySee(client: TokenClient, token: FoundToken): boolean {
  if (clientOf(token) === client.clientId) return true
  return client.authenticatesBy !== 'none' && !client.selfRegistered
}

function describe(token: FoundToken, issuer: string, now: number): object {
  if (token.kind === 'JWT') return token.isActive ? describeJwt(token.claims) : inactive
  const { kind, found } = token
  if (!isActive(token, now)) return inactive
  const { source } = found
  const bound: BoundCredential = source
  return {
    ...(source.accountId !== undefined && { sub: source.accountId }),
    ...source.extra,
    active: true,
    client_id: source.clientId,
    exp: source.exp,
    iat: source.iat,
    sid: source.sid,
    iss: issuer,
    aud: source.aud,
    scope: source.scope || undefined,
    cnf: confirmationOf(bound),
    token_type: kind === 'RefreshToken' ? undefined : tokenTypeOf(bound),
  }
}

function describeJwt(claims: OwnClaims): object {
  return { active: true, ...claims, token_type: tokenTypeOf(claims.cnf ?? {}) }
}

const tokenTypeOf = ({ jkt }: BoundCredential) => (jkt === undefined ? 'Bearer' : 'DPoP')

/** Whether a token could be used now: it, its session, its grant and its account. */
export function isActive(token: FoundToken, now: number): boolean {
  if (token.kind === 'JWT') return token.isActive
  const { kind, found } = token
  const { source } = found
  if (!isInTime(found, now)) return false
  if (kind === 'RefreshToken' && !isUnused(found)) return false
  if (source.grantId === undefined) return true
  if (!sessionGoesOn(found)) return false
  if (!hasUsableGrant(found, { clientId: source.clientId, now })) return false
  return !isRefusal(withAccount(found))
}
