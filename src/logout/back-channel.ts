import { randomUUID as nodeRandomUUID } from 'node:crypto'
import type Provider from 'oidc-provider'
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import { type DeliveryOutcome, sendTo } from '../deliveries/deliveries.ts'
import type { GuardedFetch } from '../net/guarded-fetch.ts'
import type { LogoutDelivery } from '../storage/delivery-queue.ts'
import type { SignJwt } from '../token-endpoint/issue.ts'
import { makeLogoutToken } from './logout-token.ts'

export interface BackChannelOptions {
  readonly issuer: string
  /** Whose clients receive it. */
  readonly engine: Pick<Provider, 'Client'>
  readonly guardedFetch: GuardedFetch
  readonly sign: SignJwt
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly randomUUID?: () => string
}

interface EngineClient {
  readonly idTokenSignedResponseAlg: SigningAlgorithm
  readonly backchannel_logout_uri?: string
}

/** Sends one logout token (section 2.8) to the address that its client has registered now. */
export function createBackChannel({
  issuer,
  engine,
  guardedFetch,
  sign,
  now,
  randomUUID = nodeRandomUUID,
}: BackChannelOptions): (delivery: LogoutDelivery) => Promise<DeliveryOutcome> {
  return async ({ clientId, accountId, sid }) => {
    const client = (await engine.Client.find(clientId)) as unknown as EngineClient | undefined
    if (client?.backchannel_logout_uri === undefined) return 'gone'
    const token = await makeLogoutToken(
      {
        ...{ issuer, clientId, accountId, sid },
        algorithm: client.idTokenSignedResponseAlg,
        jti: randomUUID(),
        now: Math.floor(now() / 1000),
      },
      sign,
    )
    return sendTo(client.backchannel_logout_uri, {
      guardedFetch,
      requester: clientId,
      form: new URLSearchParams({ logout_token: token }),
    })
  }
}
