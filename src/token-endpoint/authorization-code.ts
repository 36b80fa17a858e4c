import { hash } from 'node:crypto'
import { constantTimeEqual } from '@holdfast/verify/authorization-server'
import { decodeChallenge, verifiesChallenge } from '../bindings/token-binding-challenge.ts'
import {
  type FoundSource,
  findSource,
  type Grant,
  issueOfCode,
  type PersonGrantOptions,
  personOf,
  refuseCodeReuse,
  sessionGoesOn,
  usableGrant,
} from './grant.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { StoredCode } from './stored.ts'
import type { TokenRequest } from './token-request.ts'

const gty = 'authorization_code'

/** RFC 6749 section 4.1.3, with PKCE (RFC 7636) for every client. */
export function authorizationCodeGrant(
  options: PersonGrantOptions,
): Grant<FoundSource<StoredCode>> {
  return {
    grantType: gty,
    required: ['code', 'redirect_uri'],
    optional: ['code_verifier'],

    find: (request, finders) =>
      findSource<StoredCode>(request, finders, {
        kind: 'AuthorizationCode',
        value: request.params.code,
      }),

    decide(request, { credential: found, resource }) {
      const { client, params, proofs, now } = request
      if (!found) return refuse('token_unknown', { detail: 'authorization code not found' })
      const { source } = found
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (source.clientId !== client.clientId) return refuse('client_mismatch')
      if (source.exp <= now) return refuse('code_expired')
      const grant = usableGrant(found, { clientId: client.clientId, now })
      if (!grant) return refuse('grant_gone')
      const problem = verifierProblem(source, request)
      if (problem) return problem
      // RFC 6749 section 4.1.3: the same as in the authorization request.
      if (source.redirectUri !== params.redirect_uri) return refuse('redirect_uri_mismatch')
      // Section 4.1.2: a second use ends what came of the first.
      if (found.consumedAt !== null) return refuseCodeReuse(gty, found)
      const person = personOf(found, grant)
      if (isRefusal(person)) return person
      // RFC 9449 section 10: the key that the authorization request has named.
      if (source.dpopJkt !== undefined && source.dpopJkt !== proofs.dpop?.jkt) {
        const detail = 'DPoP proof key thumbprint does not match dpop_jkt'
        return refuse('key_mismatch', { detail })
      }
      if (resource && isRefusal(resource)) return resource
      return issueOfCode(request, person, { gty, resource, isElsewhere: false }, options)
    },

    // A code is used twice only by a thief or a broken client.
    lose: (_request, { credential }) => refuseCodeReuse(gty, credential),
  }
}

/** RFC 7636 section 4.6, and draft-ietf-oauth-token-binding-08 section 5. */
function verifierProblem(
  { codeChallenge, codeChallengeMethod, referredTbh }: StoredCode,
  { params: { code_verifier: verifier }, proofs: { tokenBinding } }: TokenRequest,
): Refusal | undefined {
  const challenge = decodeChallenge(codeChallenge)
  if (challenge) {
    const proven = { provided: tokenBinding?.provided.tbh, referredTbh }
    if (verifiesChallenge(challenge, verifier, proven)) return undefined
    const description = `code_verifier does not match the ${challenge.method} challenge`
    return refuse('pkce_mismatch', { description })
  }
  if (verifier !== undefined && !/^[\w.~-]{43,128}$/.test(verifier)) return refuse('pkce_malformed')
  if (verifier === undefined && codeChallenge === undefined) return undefined
  const expected = verifier && hash('sha256', verifier, 'base64url')
  return codeChallengeMethod === 'S256' && constantTimeEqual(codeChallenge, expected)
    ? undefined
    : refuse('pkce_mismatch')
}
