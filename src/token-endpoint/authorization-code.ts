import { hash } from 'node:crypto'
import { constantTimeEqual } from '@holdfast/verify/authorization-server'
import { decodeChallenge, verifiesChallenge } from '../bindings/token-binding-challenge.ts'
import {
  hasUsableGrant,
  isInTime,
  isOfClient,
  isUnused,
  sessionGoesOn,
  type Witness,
  withAccount,
} from './checks.ts'
import {
  type FoundSource,
  findSource,
  type Grant,
  issueOfCode,
  type PersonGrantOptions,
  refuseCodeReuse,
} from './grant.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { Found, StoredCode } from './stored.ts'
import { showsNamedKey } from './token-keys.ts'
import type { TokenRequest } from './token-request.ts'

const gty = 'authorization_code'

/** RFC 6749 section 4.1.3, with PKCE (RFC 7636) unless an administrator has excused the client. */
export function authorizationCodeGrant(
  options: PersonGrantOptions,
): Grant<FoundSource<StoredCode>> {
  return {
    grantType: gty,
    required: ['code', 'redirect_uri'],
    optional: ['code_verifier', 'authorization_details'],

    find: (request, finders) =>
      findSource<StoredCode>(request, finders, {
        kind: 'AuthorizationCode',
        value: request.params.code,
      }),

    decide(request, { credential: found, resource }) {
      const { client, params, now } = request
      if (!found) return refuse('token_unknown', { detail: 'authorization code not found' })
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (!isOfClient(found, client)) return refuse('client_mismatch')
      if (!isInTime(found, now)) return refuse('code_expired')
      if (!hasUsableGrant(found, { clientId: client.clientId, now })) return refuse('grant_gone')
      const verified = withVerifier(found, request)
      if (isRefusal(verified)) return verified
      // RFC 6749 section 4.1.3: the same as in the authorization request.
      if (found.source.redirectUri !== params.redirect_uri) return refuse('redirect_uri_mismatch')
      // Section 4.1.2: a second use ends what came of the first.
      if (!isUnused(verified)) return refuseCodeReuse(gty, found)
      const person = withAccount(verified)
      if (isRefusal(person)) return person
      if (!showsNamedKey(person, request)) {
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

/** The code, if the request has its verifier (RFC 7636 section 4.6). */
function withVerifier<What extends Found<StoredCode>>(
  found: What,
  request: TokenRequest,
): (What & Witness<'verifier'>) | Refusal {
  return verifierProblem(found.source, request) ?? (found as What & Witness<'verifier'>)
}

/** RFC 7636 section 4.6, and draft-ietf-oauth-token-binding-08 section 5. */
function verifierProblem(
  { codeChallenge, codeChallengeMethod, nonce, referredTbh }: StoredCode,
  { client, params: { code_verifier: verifier }, proofs: { tokenBinding } }: TokenRequest,
): Refusal | undefined {
  if (codeChallenge === undefined) {
    // RFC 9700 section 4.8.2: a verifier without a challenge is a downgrade.
    const hasNonce = nonce !== undefined || !client.requiresNonce
    const isExcused = !client.requiresPkce && hasNonce && verifier === undefined
    return isExcused ? undefined : refuse('pkce_mismatch')
  }
  const challenge = decodeChallenge(codeChallenge)
  if (challenge) {
    const proven = { provided: tokenBinding?.provided.tbh, referredTbh }
    if (verifiesChallenge(challenge, verifier, proven)) return undefined
    const description = `code_verifier does not match the ${challenge.method} challenge`
    return refuse('pkce_mismatch', { description })
  }
  if (verifier !== undefined && !/^[\w.~-]{43,128}$/.test(verifier)) return refuse('pkce_malformed')
  const expected = verifier && hash('sha256', verifier, 'base64url')
  return codeChallengeMethod === 'S256' && constantTimeEqual(codeChallenge, expected)
    ? undefined
    : refuse('pkce_mismatch')
}
