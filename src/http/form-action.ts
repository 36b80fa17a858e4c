import type { Context } from 'koa'

/**
 * Chromium applies form-action to every redirect that follows the POST, also to those of the
 * relying party, whose callback may send the person on to any other site of its own. So a page
 * whose form ends at a relying party allows all of https; its own form still names only us.
 */
export function formAction(destination: string | undefined): string {
  if (destination === undefined) return "'self'"
  const source = sourceOf(new URL(destination))
  return source === 'https:' ? "'self' https:" : `'self' https: ${source}`
}

function sourceOf({ protocol, origin, hostname }: URL): string {
  // A loopback redirect of a native app. A source cannot be an IPv6 address: "http://[::1]:80" is no host-source.
  if (protocol === 'http:') return hostname.startsWith('[') ? 'http:' : origin
  return protocol
}

/** Lets the forms of this response lead to `destination` as well. */
export function allowFormsTo(
  ctx: Pick<Context, 'set' | 'response'>,
  destination: string | undefined,
): void {
  const policy = ctx.response.get('content-security-policy')
  if (!policy) return
  ctx.set(
    'content-security-policy',
    policy.replace(/form-action [^;]*/, `form-action ${formAction(destination)}`),
  )
}
