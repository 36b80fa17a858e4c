import * as oidc from 'openid-client'
import { makeClientCertificate } from '../../src/doctor/client-certificate.ts'
import { certificateFetch } from '../../test/support/certificate-fetch.ts'
import type { DpopFixtures } from './dpop-scenario.ts'
import { type Environment, openEnvironment } from './environment.ts'
import type { MtlsFixtures } from './mtls-scenario.ts'
import { recordingFetch } from './recording-fetch.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import type { SignIn } from './steps.ts'

export interface Fixtures extends SignIn, AsyncDisposable {
  readonly issuer: string
  readonly apiUrl: string
  readonly clientId: string
  readonly relyingParty: RelyingParty
  /** The last response that the relying party got from the identity provider. */
  readonly lastResponse: () => Response
}

// The browser of the scenario stops at this address; nothing needs to listen there.
const redirectUri = 'https://app.example/callback'

/** Off by default: docs/divergences.md says what it costs. */
const renewal = { HOLDFAST_KEY_OVERLAP_HOURS: '24' }

const application = {
  client_id: 'demo-app',
  client_name: 'Demo app',
  redirect_uris: [redirectUri],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code' as const],
}

/** A confidential client with a secret and a DPoP key. */
export async function setUpDpop(report: (text: string) => void): Promise<DpopFixtures> {
  await using opened = new AsyncDisposableStack()
  const environment = opened.use(await openEnvironment(report, { environment: renewal }))
  const { client_id: clientId, client_secret: clientSecret = '' } =
    await environment.register(application)
  const { fetch, lastResponse } = recordingFetch(globalThis.fetch)
  const ownerKey = await oidc.randomDPoPKeyPair('ES256', { extractable: true })
  const relyingParty = await createRelyingParty({
    ...relyingPartyOf(environment, clientId),
    authentication: oidc.ClientSecretBasic(clientSecret),
    dpopKey: ownerKey,
    fetch,
  })
  const open = opened.move()
  return {
    ...environment,
    redirectUri,
    clientId,
    clientSecret,
    ownerKey,
    relyingParty,
    lastResponse,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** A confidential client with a self-signed certificate, for authentication and for its tokens. */
export async function setUpMtls(report: (text: string) => void): Promise<MtlsFixtures> {
  await using opened = new AsyncDisposableStack()
  const environment = opened.use(
    await openEnvironment(report, { certificates: true, environment: renewal }),
  )
  const mine = await makeClientCertificate('demo-app')
  const renewed = await makeClientCertificate('demo-app')
  const theirs = await makeClientCertificate('thief')
  const { client_id: clientId } = await environment.register({
    ...application,
    token_endpoint_auth_method: 'self_signed_tls_client_auth',
    // Both are published while one takes the place of the other.
    jwks: { keys: [mine, renewed].map(({ jwk, base64 }) => ({ ...jwk, x5c: [base64] }) as never) },
    binding_method: 'mtls',
  })
  const ca = environment.authority
  const ownerFetch = opened.use(certificateFetch({ cert: mine.cert, key: mine.key, ca }))
  const renewedFetch = opened.use(certificateFetch({ cert: renewed.cert, key: renewed.key, ca }))
  const thiefFetch = opened.use(certificateFetch({ cert: theirs.cert, key: theirs.key, ca }))
  const { fetch, lastResponse } = recordingFetch(ownerFetch)
  const relyingParty = await createRelyingParty({
    ...relyingPartyOf(environment, clientId),
    authentication: oidc.TlsClientAuth(),
    fetch,
  })
  const open = opened.move()
  return {
    ...environment,
    redirectUri,
    clientId,
    relyingParty,
    lastResponse,
    ownerFetch,
    renewedFetch,
    thiefFetch,
    ownerCertificate: mine.base64,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

function relyingPartyOf({ issuer, audience }: Environment, clientId: string) {
  return { issuer, clientId, redirectUri, resource: audience }
}
