import { hash } from 'node:crypto'
import type { Provider } from 'oidc-provider'
import { accountId, api, type CredentialOrder, codeVerifier, redirectUri } from './scenario.ts'

const scope = 'offline_access read'

/** Codes and tokens by the engine's own models: the same call for every peer that has them. */
export async function makeCredentials(
  provider: Provider,
  { kind, clientId, count, bound }: CredentialOrder,
): Promise<string[]> {
  const client = await provider.Client.find(clientId)
  if (!client) throw new Error(`there is no client ${clientId}`)
  const made: string[] = []
  while (made.length < count) {
    const grant = new provider.Grant({ accountId, clientId })
    grant.addOIDCScope('offline_access')
    grant.addResourceScope(api, 'read')
    const grantId = await grant.save()
    const ofPerson = { accountId, client, grantId, gty: 'authorization_code', scope }
    const credential = create(provider, kind, ofPerson)
    if (kind !== 'AuthorizationCode') Object.assign(credential, bound)
    made.push(await credential.save())
  }
  return made
}

type Person = { accountId: string; client: object; grantId: string; gty: string; scope: string }

function create(provider: Provider, kind: CredentialOrder['kind'], person: Person) {
  const given = person as never as { client: never; scope: string }
  switch (kind) {
    case 'RefreshToken':
      return new provider.RefreshToken({ ...given, resource: api } as never)
    case 'AuthorizationCode':
      return new provider.AuthorizationCode({
        ...given,
        resource: api,
        redirectUri,
        codeChallenge: hash('sha256', codeVerifier, 'base64url'),
        codeChallengeMethod: 'S256',
      } as never)
    case 'DeviceCode': {
      const userCode = Math.random().toString(36).slice(2)
      return new provider.DeviceCode({ ...given, resource: api, userCode, params: {} } as never)
    }
    // Opaque, for this server: what can be introspected at every peer.
    case 'AccessToken':
      return new provider.AccessToken(given as never)
  }
}
