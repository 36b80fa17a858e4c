/** The code flow of one application: what is remembered of it is sealed in a cookie of the browser. */
import { randomBytes } from 'node:crypto'
import { traced } from '../traces.ts'
import type { Answer } from './answers.ts'
import { redirect } from './answers.ts'
import { expiredCookie, setCookie, signInCookies } from './cookies.ts'
import type { Provider, SignedIn, SignInRequest } from './provider.ts'
import { equal, type Sealer } from './sealing.ts'

/** What a sign-in is for. */
export type Intent = Readonly<{
  /** A path of the application. */
  returnTo: string
  /** Which kept form is sent afterwards. */
  form?: number | undefined
  acrValues: readonly string[]
  maxAgeS?: number | undefined
  silent: boolean
}>

type Begun = Intent & SignInRequest

/** How a sign-in ended. */
export type Outcome =
  | Readonly<{ kind: 'signed_in'; intent: Intent; key: SignInRequest['key']; signedIn: SignedIn }>
  /** The provider has said no; `error` is its code. */
  | Readonly<{ kind: 'denied'; intent: Intent; error: string }>
  /** This browser has begun no such sign-in, or too long ago. */
  | Readonly<{ kind: 'unknown' }>
  | Readonly<{ kind: 'failed'; intent: Intent; cause: unknown }>

/** Sign-ins of one application. */
export type SignIns = Readonly<{
  /** Leads a browser to the provider. @throws where the provider cannot be asked. */
  begin(intent: Intent, cookies: ReadonlyMap<string, string>): Promise<Answer>
  /** Reads the provider's answer in the query of a request. */
  finish(query: string, cookies: ReadonlyMap<string, string>): Promise<Outcome>
  /** Removes the cookie of the sign-in that a query belongs to. */
  cleared(query: string): readonly string[]
}>

/** A person may look for a second factor. */
const lifeMs = 600_000

/** Makes the sign-ins of an application. */
export function createSignIns({
  origin,
  redirectUri,
  provider,
  sealer,
  now,
}: Readonly<{
  origin: string
  redirectUri: string
  provider: Provider
  sealer: Sealer
  now: () => number
}>): SignIns {
  const purpose = `sign-in ${origin}`

  function freeSlot(cookies: ReadonlyMap<string, string>): number {
    const free = signInCookies.flatMap((name, slot) => (cookies.has(name) ? [] : [slot]))
    const slots = free.length > 0 ? free : signInCookies.map((_, slot) => slot)
    // By chance: tabs that are opened at once send the same cookies.
    return slots[(randomBytes(1)[0] ?? 0) % slots.length] ?? 0
  }

  const slotOf = (state: string) => /^([0-4])-/.exec(state)?.[1]

  return Object.freeze({
    async begin(intent, cookies) {
      const slot = freeSlot(cookies)
      const random = () => randomBytes(32).toString('base64url')
      const begun: Begun = {
        ...intent,
        state: `${slot}-${random()}`,
        nonce: random(),
        verifier: random(),
        key: await provider.newKey(),
      }
      const location = await traced('sign-in', () => provider.begin(begun))
      const sealed = sealer.seal(purpose, begun, now() + lifeMs)
      const name = signInCookies[slot] as string
      return redirect(location.href, [setCookie(name, sealed, lifeMs / 1000)])
    },

    async finish(query, cookies) {
      const parameters = new URLSearchParams(query)
      const [state = '', ...others] = parameters.getAll('state')
      const slot = slotOf(state)
      const cookie = slot === undefined ? undefined : cookies.get(signInCookies[Number(slot)] ?? '')
      const begun = cookie && (sealer.open(purpose, cookie, now()) as Begun | undefined)
      if (!begun || others.length > 0 || !equal(begun.state, state)) return { kind: 'unknown' }
      try {
        const answer = new URL(redirectUri + query)
        const signedIn = await traced('sign-in', () => provider.finish(answer, begun))
        return { kind: 'signed_in', intent: begun, key: begun.key, signedIn }
      } catch (cause) {
        const error = deniedBy(cause)
        if (error !== undefined) return { kind: 'denied', intent: begun, error }
        return { kind: 'failed', intent: begun, cause }
      }
    },

    cleared(query) {
      const slot = slotOf(new URLSearchParams(query).get('state') ?? '')
      return slot === undefined ? [] : [expiredCookie(signInCookies[Number(slot)] as string)]
    },
  })
}

/** The code of an error answer of the authorization endpoint (RFC 6749 section 4.1.2.1). */
function deniedBy(cause: unknown): string | undefined {
  const { code, error } = cause as { code?: unknown; error?: unknown }
  const isAnswer = code === 'OAUTH_AUTHORIZATION_RESPONSE_ERROR'
  return isAnswer && typeof error === 'string' ? error : undefined
}
