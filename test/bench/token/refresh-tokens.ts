import type { Provider } from 'oidc-provider'
import { accountId, api } from './scenario.ts'

/** Grants and refresh tokens by the engine's own models: the same call for every peer. */
export async function makeRefreshTokens(
  provider: Provider,
  clientId: string,
  jkt: string,
  count: number,
): Promise<string[]> {
  const client = await provider.Client.find(clientId)
  if (!client) throw new Error(`there is no client ${clientId}`)
  const tokens: string[] = []
  while (tokens.length < count) {
    const grant = new provider.Grant({ accountId, clientId })
    grant.addOIDCScope('offline_access')
    grant.addResourceScope(api, 'read')
    const refreshToken = new provider.RefreshToken({
      accountId,
      client,
      grantId: await grant.save(),
      gty: 'authorization_code',
      resource: api,
      scope: 'offline_access read',
    })
    if (jkt) refreshToken.jkt = jkt
    tokens.push(await refreshToken.save())
  }
  return tokens
}
