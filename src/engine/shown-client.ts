import { hash } from 'node:crypto'
import type Provider from 'oidc-provider'
import { isPageUri } from '../clients/client-registration.ts'
import { redirectPlace, redirectPlaces } from '../clients/open-clients.ts'
import type { ClientPage, ClientView, OpenClientView } from '../pages/views.ts'
import { storeMembers } from './model-additions.ts'

/*
 * Consent is for what was shown: the client's name, whether it registered itself, how its tokens are
 * bound, its logo, the pages about it, and where the person is sent. Of a client that a document
 * describes, its keys count as well: anyone who changes another's document becomes the client. A grant keeps digests of that; a client that changes any of
 * it, or sends people to another of its hosts, is asked for again.
 */

/** What the page shows of a client; a client of the engine is one. */
export interface ShownClient {
  readonly clientId: string
  readonly clientName?: string | undefined
  readonly redirectUris?: readonly string[] | undefined
  readonly binding_method?: unknown
  readonly self_registered?: unknown
  readonly open_client?: unknown
  readonly tokenEndpointAuthMethod?: string | undefined
  readonly jwks?: unknown
  readonly jwksUri?: string | undefined
  readonly clientUri?: string | undefined
  readonly policyUri?: string | undefined
  readonly tosUri?: string | undefined
  readonly logo?: unknown
}

/** The most digests of a grant: of more, the oldest is asked for again. */
const digestsLimit = 20

/** A digest of what people are shown of a client. */
export function shownDigest(client: ShownClient, redirectUri: string | undefined): string {
  const places = new Set((client.redirectUris ?? []).map(redirectPlace))
  const shown = [
    client.clientName ?? client.clientId,
    client.binding_method ?? null,
    client.self_registered === true,
    [...places].sort(),
    redirectUri === undefined ? null : redirectPlace(redirectUri),
    // Last, so that a client without any has the digest of releases that did not show them.
    ...(clientPages(client).length > 0 ? [clientPages(client).map(({ uri }) => uri)] : []),
    ...(client.logo === undefined ? [] : [client.logo]),
    ...(client.open_client === 'document' ? [keysOf(client)] : []),
  ]
  return hash('sha256', JSON.stringify(shown), 'base64url')
}

/** The pages about a client that we link to. */
function clientPages({ clientUri, policyUri, tosUri }: ShownClient): ClientPage[] {
  const named = [
    ['client.page_website', clientUri],
    ['client.page_policy', policyUri],
    ['client.page_terms', tosUri],
  ] as const
  // Earlier releases have stored addresses of any kind.
  return named.flatMap(([label, uri]) =>
    isPageUri(uri) ? [{ label, uri, host: new URL(uri).host }] : [],
  )
}

function keysOf({ tokenEndpointAuthMethod, jwks, jwksUri }: ShownClient): readonly unknown[] {
  return [tokenEndpointAuthMethod ?? null, jwks ?? null, jwksUri ?? null]
}

/** What the consent page shows of a client that nobody here has let in; undefined for all others. */
export function openClientView(client: ShownClient): OpenClientView | undefined {
  const { open_client: source, clientId, redirectUris } = client
  if (source === undefined) return undefined
  const { hosts, isLocalOnly } = redirectPlaces(redirectUris ?? [])
  const documentHost = source === 'document' ? new URL(clientId).host : undefined
  return { documentHost, redirectHosts: hosts, isLocalOnly }
}

/** What pages show of a client beside its name. */
export function clientView(client: ShownClient): ClientView {
  const { clientId, clientName, logo } = client
  return {
    name: clientName ?? clientId,
    pages: clientPages(client),
    ...(typeof logo === 'string' && { logo }),
  }
}

type Grant = InstanceType<Provider['Grant']> & { shown?: readonly string[] | undefined }

/** Whether a grant was given for what is shown now. */
export function wasShown(grant: object, digest: string): boolean {
  const { shown } = grant as { shown?: unknown }
  return Array.isArray(shown) && shown.includes(digest)
}

/** Notes what was shown when a grant was given. */
export function rememberShown(grant: Grant, digest: string): void {
  const others = (grant.shown ?? []).filter((each) => each !== digest)
  grant.shown = [...others, digest].slice(-digestsLimit)
}

/** Lets the engine's grants keep what was shown. */
export function keepShown(engine: Provider): void {
  storeMembers(engine, 'Grant', ['shown'])
}
