/** Which cookies are the gate's own: no application gets them, and none can set them. */

/** Whether a cookie of this name is the gate's. */
export const isOwnName = (name: string) => /^__host-gate(?:-|$)/i.test(name.trim())

/** A `Cookie` field without the gate's; `undefined` when nothing is left. */
export function withoutOwnCookies(value: string): string | undefined {
  const left = value.split(/; ?/).filter((pair) => !isOwnName(pair.split('=')[0] ?? ''))
  return left.join('; ') || undefined
}

/** Whether a `Set-Cookie` of an application would overwrite one of the gate's. */
export const isOwnCookie = (setting: string) => isOwnName(setting.split('=')[0] ?? '')
