import type { Grant } from './grant.ts'
import type { TokenPolicy } from './issue.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import { type FoundResource, findResource, requestedResource } from './resources.ts'
import { accessTokenKeys, isCertified } from './token-keys.ts'
import { requestedScopes, type TokenRequest } from './token-request.ts'

/** RFC 6749 section 4.4: a client in its own name. */
export function clientCredentialsGrant({
  policy,
}: {
  policy: TokenPolicy
}): Grant<{ readonly resource: FoundResource | Refusal | undefined }> {
  const known = new Set([...Object.keys(policy.claimsByScope), 'offline_access'])
  return {
    grantType: 'client_credentials',
    required: [],
    optional: ['scope', 'authorization_details'],

    async find(request, { resource, resourceOfScopes }) {
      const { client } = request
      const named =
        requestedResource(request) ??
        client.defaultResource ??
        (await resourceOfScopes(client.scopesAt(scopesOrDefault(request)) ?? []))
      return { resource: await findResource(named, client, resource) }
    },

    decide(request, { resource }) {
      const { client } = request
      if (resource && isRefusal(resource)) return resource
      // Their types have texts for people, who consent to them.
      if (request.params.authorization_details) return refuse('details_not_granted')
      // Without a resource the token is for this server, which has its own scopes and no others.
      const asked = scopesOrDefault(request)
      const requested = asked.filter((scope) => resource || known.has(scope))
      const forbidden = requested.find(
        (scope) => known.has(scope) && client.scopes?.has(scope) === false,
      )
      if (forbidden) return refuse('scope_forbidden', { scope: forbidden })
      const allowed = resource ? requested.filter((scope) => resource.scopes.has(scope)) : requested
      // RFC 6749 section 3.3: what is left out of the token is left out of the answer. Not all of it.
      if (asked.length > 0 && allowed.length === 0) {
        return refuse('scope_forbidden', { scope: asked.join(' ') })
      }
      const scope = [...new Set(allowed)].join(' ') || undefined

      const bound = accessTokenKeys(request, {
        audience: resource?.audience,
        issuer: policy.issuer,
        certified: isCertified(client),
      })
      if (isRefusal(bound)) return bound
      return {
        consumes: undefined,
        accessToken: {
          kind: 'ClientCredentials',
          clientId: client.clientId,
          accountId: undefined,
          bound,
          scope,
          resource,
          details: undefined,
          extra: undefined,
          stored: {},
        },
        refreshToken: undefined,
        idToken: undefined,
        scope,
        account: undefined,
        keyChanges: [],
      }
    },
  }
}

/** The scopes that a request names, else those that its client has by default. */
function scopesOrDefault(request: TokenRequest): readonly string[] {
  const requested = requestedScopes(request)
  return requested.length > 0 ? requested : request.client.defaultScopes
}
