import type Provider from 'oidc-provider'
import {
  challengeMethods,
  encodeChallenge,
  validateChallenge,
} from '../../bindings/token-binding-challenge.ts'
import { interceptParameters } from '../parameters.ts'

/** Accepts both methods at every endpoint, and names them in the metadata (RFC 8414 section 2). */
export function acceptTokenBindingChallenges(engine: Provider): void {
  interceptParameters(engine, (params) => ('code_challenge' in params ? translate(params) : params))
  engine.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route === 'discovery')
      ctx.body.code_challenge_methods_supported.push(...challengeMethods)
  })
}

/**
 * A method with a challenge of another method is left as it is: then the engine is shown a method
 * that it does not know, and refuses it. A challenge without a method, which RFC 7636 section 4.3
 * calls `plain`, it refuses as well.
 */
function translate(params: Record<string, unknown>): object {
  const { ...given } = params
  const challenge = () => validateChallenge(given.code_challenge_method, given.code_challenge)
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
      return valid ? encodeChallenge(valid) : given.code_challenge
    }),
    code_challenge_method: accessor('code_challenge_method', () =>
      challenge() ? 'S256' : given.code_challenge_method,
    ),
  })
}
