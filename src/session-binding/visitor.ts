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
