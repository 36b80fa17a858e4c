import type { Context } from 'koa'

export interface Visitor {
  readonly userAgent: string
  readonly address: string
}

/** No browser has a longer name, and nobody reads it to the end. */
const longestName = 300

/** Where a request comes from, as its sender says and the connection shows. */
export function visitor(ctx: Pick<Context, 'get' | 'ip'> | undefined): Visitor {
  return {
    userAgent: ctx?.get('user-agent').slice(0, longestName) ?? '',
    address: ctx?.ip ?? '',
  }
}
