/**
 * The short-lived cookie that shows on each request that the key of a session was proven a short
 * while ago: a MAC over the session and the time of the proof.
 */
import type { Tickets } from './ticket.ts'

export interface BoundCookie {
  /** As browsers know it, and as a `Set-Cookie` has it. */
  readonly attributes: string
  /** A `Set-Cookie` for a session whose key was proven this moment. */
  make(session: string): string
  /** A `Set-Cookie` that removes it. */
  readonly expired: string
  /**
   * When the key of a session was last proven, by a `Cookie` header field, in milliseconds since the
   * epoch; `undefined`: not within the lifetime.
   */
  provenAt(session: string, cookies: string | undefined): number | undefined
}

/** @param now milliseconds since the epoch. */
export function createBoundCookie({
  name,
  purpose,
  basePath,
  lifetimeS,
  tickets,
  now,
}: {
  name: string
  purpose: string
  basePath: string
  lifetimeS: number
  tickets: Tickets
  now: () => number
}): BoundCookie {
  const isForOrigin = name.startsWith('__Host-') || basePath === ''
  const attributes = `Path=${isForOrigin ? '/' : basePath}; Secure; HttpOnly; SameSite=Lax`
  // The browser's copy ends first: a request that is on its way then is not late.
  const maxAge = Math.max(1, Math.floor(lifetimeS * 0.95))
  return {
    attributes,
    make: (session) =>
      `${name}=${tickets.make(purpose, session)}; ${attributes}; Max-Age=${maxAge}`,
    expired: `${name}=; ${attributes}; Max-Age=0`,
    provenAt(session, cookies) {
      const given = [...(cookies ?? '').matchAll(/(?:^|; ?)([^=;]+)=([^;]*)/g)]
        .filter(([, each]) => each === name)
        // Any that is current: rotations overtake requests that are on their way.
        .map(([, , value = '']) => tickets.madeAt([purpose, session], value))
        .filter((madeAt) => madeAt !== undefined && now() - madeAt < lifetimeS * 1000)
      return given[0]
    },
  }
}
