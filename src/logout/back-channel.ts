import { randomUUID as nodeRandomUUID } from 'node:crypto'
import type Provider from 'oidc-provider'
import type { SigningAlgorithm } from '../config/signing-algorithms.ts'
import {
  type GuardedFetch,
  GuardedFetchError,
  type GuardedFetchLimits,
} from '../net/guarded-fetch.ts'
import type { LogoutDelivery } from '../storage/logout-delivery-table.ts'
import type { SignJwt } from '../token-endpoint/issue.ts'
import type { DeliveryOutcome } from './deliveries.ts'
import { makeLogoutToken } from './logout-token.ts'

/** A client that many people leave at once gets more requests than one whose keys are fetched. */
export const logoutFetchLimits: Partial<GuardedFetchLimits> = {
  limitBytes: 4096,
  patienceMs: 5000,
  concurrent: 32,
  concurrentPerRequester: 8,
  perMinute: 2000,
  perMinutePerRequester: 500,
}

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

/** Sends one logout token to the address that its client has registered now. */
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
    try {
      const { status } = await guardedFetch(client.backchannel_logout_uri, {
        requester: clientId,
        form: new URLSearchParams({ logout_token: token }),
      })
      return outcomeOf(status)
    } catch (error) {
      if (!(error instanceof GuardedFetchError)) throw error
      return permanent.has(error.code) ? 'refused' : 'failed'
    }
  }
}

/** Section 2.8: 200, or 204 of some frameworks; 400 says that this token will never do. */
function outcomeOf(status: number): DeliveryOutcome {
  if (status === 200 || status === 204) return 'delivered'
  return status >= 500 || status === 429 || status === 408 ? 'failed' : 'refused'
}

const permanent: ReadonlySet<string> = new Set(['not_https', 'redirected'])
