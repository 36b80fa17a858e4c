import { AsyncLocalStorage } from 'node:async_hooks'
import type { Context } from 'koa'

export interface Visitor {
  readonly userAgent: string
  readonly address: string
}

/** No browser has a longer name, and nobody reads it to the end. */
const longestName = 300

/** Where a request comes from, as its sender says and the connection shows, or a proxy that is believed. */
export function visitor(ctx: Pick<Context, 'get' | 'state'> | undefined): Visitor {
  return {
    userAgent: ctx?.get('user-agent').slice(0, longestName) ?? '',
    address: ctx?.state.address ?? '',
  }
}

const current = new AsyncLocalStorage<Visitor>()

/** Makes client info available to event handlers that receive proofs without the request. */
export function asVisitor<T>(ctx: Pick<Context, 'get' | 'state'>, work: () => T): T {
  return current.run(visitor(ctx), work)
}

export function currentVisitor(): Visitor | undefined {
  return current.getStore()
}
