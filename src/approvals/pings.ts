import type Provider from 'oidc-provider'
import { type DeliveryOutcome, sendTo } from '../deliveries/deliveries.ts'
import type { SealedState } from '../engine/sealed-state.ts'
import type { GuardedFetch } from '../net/guarded-fetch.ts'
import type { PingDelivery } from '../storage/delivery-queue.ts'

export interface PingOptions {
  /** Whose clients receive it. */
  readonly engine: Pick<Provider, 'Client'>
  readonly guardedFetch: GuardedFetch
  readonly state: SealedState
}

interface EngineClient {
  readonly backchannelTokenDeliveryMode?: string
  readonly backchannelClientNotificationEndpoint?: string
}

/**
 * Sends one notification (CIBA Core section 10.2) to the endpoint that its client has registered now.
 * It says that a request was decided, and not how: its client asks at the token endpoint, by its key.
 */
export function createPings({
  engine,
  guardedFetch,
  state,
}: PingOptions): (delivery: PingDelivery) => Promise<DeliveryOutcome> {
  return async ({ clientId, sealed }) => {
    const client = (await engine.Client.find(clientId)) as unknown as EngineClient | undefined
    const endpoint = client?.backchannelClientNotificationEndpoint
    const { auth_req_id, token } = state.open(clientId, sealed) ?? {}
    if (client?.backchannelTokenDeliveryMode !== 'ping' || !endpoint || !token) return 'gone'
    return sendTo(endpoint, {
      guardedFetch,
      requester: clientId,
      headers: { authorization: `Bearer ${token}` },
      json: { auth_req_id },
    })
  }
}
