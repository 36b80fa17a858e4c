import { hash, randomBytes } from 'node:crypto'
import Provider from 'oidc-provider'
import type { TokenBindingOf } from '../http/token-binding-reader.ts'
import { parseTokenBindingId } from '../verify/token-binding.ts'
import { invalidGrant } from './bindings/invalid-grant.ts'
import { override } from './override.ts'
import { interceptParameters } from './parameters.ts'

/*
 * draft-ietf-oauth-token-binding-08 section 5: codes bound by Token Binding, in the parameters of
 * PKCE. The engine knows S256 only, and checks lengths that these methods break (a challenge and a
 * verifier of 11 characters, a verifier of 354). So it is shown `<method>.<challenge>` as an S256
 * challenge, which no verifier can match: whatever does not come through here is refused by it.
 * That form passes through pushed requests, request objects and interactions as any other challenge.
 */

/** Challenges of each method, in full: one method's challenge means nothing under another. */
const challenges = {
  /** base64url of the SHA-256 of an ID, which is what `tbh` is (section 5.1.1). */
  'TB-S256': /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/,
  /** The browser's own ID stays on its connection (section 5.2.1). */
  referred_tb: /^referred_tb$/,
} as const

type Method = keyof typeof challenges

const methods = Object.keys(challenges) as Method[]

interface Challenge {
  readonly method: Method
  readonly challenge: string
}

function validate(method: unknown, challenge: unknown): Challenge | undefined {
  const known = methods.find((each) => each === method)
  if (known === undefined || typeof challenge !== 'string') return undefined
  return challenges[known].test(challenge) ? { method: known, challenge } : undefined
}

/** RFC 7636 section 4.2: at least 43 characters. */
function encode({ method, challenge }: Challenge): string {
  return `${method}.${challenge}`.padEnd(43, '.')
}

function decode(codeChallenge: unknown): Challenge | undefined {
  const [method, challenge] = String(codeChallenge).split('.')
  return validate(method, challenge)
}

/** Whether a challenge, as the engine is shown it, is for the browser's own key. */
export function isReferredChallenge(codeChallenge: unknown): boolean {
  return decode(codeChallenge)?.method === 'referred_tb'
}

/** Accepts both methods at every endpoint, and names them in the metadata (RFC 8414 section 2). */
export function acceptTokenBindingChallenges(
  engine: Provider,
  tokenBindingOf: TokenBindingOf,
): void {
  interceptParameters(engine, (params) => ('code_challenge' in params ? translate(params) : params))
  redeemTokenBoundCodes(engine, tokenBindingOf)
  engine.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route === 'discovery') ctx.body.code_challenge_methods_supported.push(...methods)
  })
}

/**
 * A method with a challenge of another method is left as it is: then the engine is shown a method
 * that it does not know, and refuses it. A challenge without a method, which RFC 7636 section 4.3
 * calls `plain`, it refuses as well.
 */
function translate(params: Record<string, unknown>): object {
  const { ...given } = params
  const challenge = () => validate(given.code_challenge_method, given.code_challenge)
  const accessor = (name: string, read: () => unknown) => ({
    enumerable: true,
    get: read,
    set(value: unknown) {
      given[name] = value
    },
  })
  return Object.defineProperties(params, {
    code_challenge: accessor('code_challenge', () => {
      const valid = challenge()
      return valid ? encode(valid) : given.code_challenge
    }),
    code_challenge_method: accessor('code_challenge_method', () =>
      challenge() ? 'S256' : given.code_challenge_method,
    ),
  })
}

function redeemTokenBoundCodes(engine: Provider, tokenBindingOf: TokenBindingOf): void {
  override(
    engine,
    'AuthorizationCode',
    (Base) =>
      class extends Base {
        static override async find<T>(
          value: string,
          options?: { ignoreExpiration?: boolean },
        ): Promise<T | undefined> {
          const code = await super.find(value, options)
          const ctx = Provider.ctx
          const challenge = decode(code?.codeChallenge)
          if (code && challenge && ctx?.oidc.route === 'token') {
            const params = ctx.oidc.params as { code_verifier?: unknown }
            const proven = { provided: tokenBindingOf(ctx.req)?.provided.tbh, ...code }
            if (!isVerified(challenge, params.code_verifier, proven)) {
              throw invalidGrant(`code_verifier does not match the ${challenge.method} challenge`)
            }
            // The engine's own comparison comes next, and is given a pair made for it.
            params.code_verifier = randomBytes(32).toString('base64url')
            code.codeChallenge = hash('sha256', String(params.code_verifier), 'base64url')
          }
          return code as T | undefined
        }
      },
  )
}

interface Proven {
  /** `tbh` of the connection of this token request. */
  readonly provided: string | undefined
  /** `tbh` of the browser and the client, from the authorization request. */
  readonly referredTbh?: string | undefined
}

function isVerified(
  { method, challenge }: Challenge,
  verifier: unknown,
  { provided, referredTbh }: Proven,
): boolean {
  switch (method) {
    case 'TB-S256':
      // Section 5.1.2: the proof is the connection; the verifier only says so.
      return verifier === 'provided_tb' && provided === challenge
    case 'referred_tb':
      // Section 5.2.2: the ID itself, as the browser provided it to the client.
      return (
        typeof verifier === 'string' &&
        referredTbh !== undefined &&
        parseTokenBindingId(verifier)?.tbh === referredTbh
      )
  }
}
