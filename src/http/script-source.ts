import type { Context } from 'koa'

/**
 * Lets this response run a script: the file of ours at this address, whose name changes with its
 * content. Nothing inline runs, and no other file but those that were let run before.
 *
 * @param url of the script, absolute.
 */
export function allowScript(ctx: Pick<Context, 'set' | 'response'>, url: string): void {
  const policy = ctx.response.get('content-security-policy')
  if (!policy || policy.includes(` ${url}`)) return
  const allowed = policy
    .replace(/script-src [^;]*/, (sources) => `${sources} ${url}`)
    .replace("script-src 'none'", 'script-src')
  ctx.set('content-security-policy', allowed)
}

/** Lets the scripts of this response send requests to one address of ours. */
export function allowConnection(ctx: Pick<Context, 'set' | 'response'>, url: string): void {
  const policy = ctx.response.get('content-security-policy')
  if (!policy || policy.includes('connect-src')) return
  ctx.set('content-security-policy', `${policy}; connect-src ${url}`)
}
