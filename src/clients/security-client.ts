/**
 * "My security" as an app of its own: a user without a session signs in as for any
 * other app, with its limits, its offer of a key and its events, and comes back.
 */
import { randomBytes } from 'node:crypto'
import type { ClientMetadata, KoaContextWithOIDC, Provider } from 'oidc-provider'

export const securityClientId = 'holdfast-my-security'

/** The pages that a sign-in leads to, by the names of their routes. */
const pages = {
  security: '/security',
  approvals: '/security/approvals',
  security_profile: '/security/profile',
  security_sign_in: '/security/sign-in',
  security_sessions: '/security/sessions',
  security_applications: '/security/applications',
  security_activity: '/security/activity',
  security_data: '/security/data',
} as const

export type SecurityPageName = keyof typeof pages

export function securityClient(issuer: string): ClientMetadata {
  return {
    client_id: securityClientId,
    client_name: 'My security',
    application_type: 'web',
    redirect_uris: Object.values(pages).map((page) => issuer + page),
    response_types: ['code'],
    grant_types: ['authorization_code'],
    token_endpoint_auth_method: 'none',
  }
}

/** Where someone is sent to sign in. The code that comes back is for nobody: the session is all. */
export function signInUrl(
  issuer: string,
  { to, withinS, acr }: { to: SecurityPageName; withinS?: number; acr?: string },
): string {
  const query = new URLSearchParams({
    client_id: securityClientId,
    response_type: 'code',
    scope: 'openid',
    redirect_uri: issuer + pages[to],
    // Of a verifier that nobody has.
    code_challenge: randomBytes(32).toString('base64url'),
    code_challenge_method: 'S256',
    // A sign-in that is older is asked for again.
    ...(withinS !== undefined && { max_age: String(withinS) }),
    // So is one that does not meet this authentication context.
    ...(acr && {
      claims: JSON.stringify({ id_token: { acr: { essential: true, value: acr } } }),
    }),
  })
  return `${issuer}/authorize?${query}`
}

type Grant = InstanceType<Provider['Grant']>

/**
 * The engine's `loadExistingGrant`: nobody is asked whether this server may know who they are. The
 * grant is not stored, so that it is in no list, and no code is good for a token.
 */
export async function loadExistingGrant({ oidc }: KoaContextWithOIDC): Promise<Grant | undefined> {
  const { client, session, account, provider } = oidc
  const grantId = oidc.result?.consent?.grantId ?? session?.grantIdFor(client?.clientId ?? '')
  if (grantId) return provider.Grant.find(grantId)
  if (!client || !account || client.clientId !== securityClientId) return undefined
  const grant = new provider.Grant({ accountId: account.accountId, clientId: client.clientId })
  grant.addOIDCScope('openid')
  return grant
}
