import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import { detailsLimitBytes } from '../authorization-details/authorization-details.ts'
import { refusedFor } from './refusal-reason.ts'

/** Bytes of one parameter. */
const parameterLimitBytes = 2048

/** Bytes of all parameters of a request that comes by a browser or a device. */
const requestLimitBytes = 8 * 1024

/** Bytes of all parameters of a pushed request. */
const pushedLimitBytes = 16 * 1024

/** JWTs, of which there is at most one each: the whole request is their bound. */
const tokens = new Set(['request', 'id_token_hint', 'client_assertion'])

/** Bytes of a parameter. */
const limitOf = (name: string) =>
  name === 'authorization_details' ? detailsLimitBytes : parameterLimitBytes

/**
 * The engine's validator of authorization requests, in which it has checked the redirect URI: an
 * error leads only to one that is registered. Parameters of request objects and of pushed requests
 * are bounded one by one as all others.
 *
 * @throws the engine's `invalid_request`.
 */
export async function boundParameters({ oidc, query }: KoaContextWithOIDC): Promise<void> {
  for (const [name, value] of Object.entries(oidc.params ?? {})) {
    if (!tokens.has(name) && sizeOf(value) > limitOf(name)) {
      throw tooLong(`${name} is longer than ${limitOf(name)} bytes`)
    }
  }
  const sent = Object.values(oidc.body ?? query)
  const limit = oidc.route === 'pushed_authorization_request' ? pushedLimitBytes : requestLimitBytes
  if (sent.reduce<number>((sum, value) => sum + sizeOf(value), 0) > limit) {
    throw tooLong(`the parameters are longer than ${limit} bytes together`)
  }
}

/** Of a string, or of a parameter that came several times. */
function sizeOf(value: unknown): number {
  if (Array.isArray(value)) return value.reduce((sum, each) => sum + sizeOf(each), 0)
  return typeof value === 'string' ? Buffer.byteLength(value) : 0
}

function tooLong(problem: string) {
  return refusedFor('request_bounds', new errors.InvalidRequest(problem))
}
