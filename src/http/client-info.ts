import { AsyncLocalStorage } from 'node:async_hooks'
import type { Context } from 'koa'

export interface ClientInfo {
  readonly userAgent: string
  readonly address: string
}

/** No browser has a longer name, and nobody reads it to the end. */
const longestName = 300

/** Where a request comes from, as its sender says and the connection shows, or a proxy that is believed. */
export function clientInfo(ctx: Pick<Context, 'get' | 'state'> | undefined): ClientInfo {
  return {
    userAgent: ctx?.get('user-agent').slice(0, longestName) ?? '',
    address: ctx?.state.address ?? '',
  }
}

const current = new AsyncLocalStorage<ClientInfo>()

/** Makes client info available to event handlers that receive proofs without the request. */
export function withClientInfo<T>(ctx: Pick<Context, 'get' | 'state'>, work: () => T): T {
  return current.run(clientInfo(ctx), work)
}

export function currentClientInfo(): ClientInfo | undefined {
  return current.getStore()
}
