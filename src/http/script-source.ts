import type { Context } from 'koa'

/**
 * Lets this response run one script: the file of ours at this address, whose name changes with its
 * content. Nothing inline runs, and no other file.
 *
 * @param url of the script, absolute.
 */
export function allowScript(ctx: Pick<Context, 'set' | 'response'>, url: string): void {
  const policy = ctx.response.get('content-security-policy')
  if (policy)
    ctx.set('content-security-policy', policy.replace("script-src 'none'", `script-src ${url}`))
}
