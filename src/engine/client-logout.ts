/**
 * What a client registers to learn of a logout (OpenID Connect Back-Channel Logout 1.0 section 2.2
 * and Front-Channel Logout 1.0 section 2). The engine's own back channel is off: it sends while the
 * person waits, once, and only for its own end of a session.
 */
import type Provider from 'oidc-provider'
import { type ClientMetadata, errors } from 'oidc-provider'
import { redirectUrisOf } from '../clients/redirect-uris.ts'
import type { Extension } from './extension.ts'

declare module 'oidc-provider' {
  interface ClientMetadata {
    backchannel_logout_uri?: string | undefined
    backchannel_logout_session_required?: boolean | undefined
    frontchannel_logout_uri?: string | undefined
    frontchannel_logout_session_required?: boolean | undefined
  }
}

const uris = ['backchannel_logout_uri', 'frontchannel_logout_uri'] as const
const required = [
  'backchannel_logout_session_required',
  'frontchannel_logout_session_required',
] as const

/** @throws the engine's `invalid_client_metadata`. */
export function checkLogoutMetadata(metadata: ClientMetadata): void {
  for (const name of required) {
    const value = metadata[name]
    if (value !== undefined && typeof value !== 'boolean')
      throw invalid(`${name} must be a boolean`)
  }
  for (const name of uris) checkReceiver(name, metadata[name])
  const { frontchannel_logout_uri: front } = metadata
  // Front-Channel Logout section 2. It is also what our page may frame.
  const origins = redirectUrisOf(metadata).map((uri) => URL.parse(uri)?.origin)
  if (front !== undefined && !origins.includes(new URL(front).origin)) {
    throw invalid('frontchannel_logout_uri must be of the origin of one of redirect_uris')
  }
}

/**
 * Checks an address to which this server, or a browser for it, sends something for the client.
 *
 * @throws the engine's `invalid_client_metadata`.
 */
export function checkReceiver(name: string, uri: unknown): void {
  if (uri === undefined) return
  const url = typeof uri === 'string' && uri.length <= 2048 ? URL.parse(uri) : null
  if (url?.protocol !== 'https:' || url.username || url.password || url.hash) {
    throw invalid(`${name} must be an https URL without a user name and without a fragment`)
  }
}

const invalid = (rule: string) => new errors.InvalidClientMetadata(rule)

/** ID tokens of a client that learns of logouts name the session that the logout will name. */
function includeSessionIds({ Client }: Provider): void {
  Object.assign(Client.prototype, {
    includeSid(this: object) {
      return uris.some((name) => (this as ClientMetadata)[name] !== undefined)
    },
  })
}

export const logoutChannels: Extension = {
  extend: includeSessionIds,
  metadata: () => ({
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
    frontchannel_logout_supported: true,
    frontchannel_logout_session_supported: true,
  }),
  clientMetadata: [...uris, ...required],
  checkClient: checkLogoutMetadata,
}
