import { decodeJson, parseJsonObject } from '@holdfast/verify/authorization-server'
import { errors } from 'oidc-provider'
import { refusedFor } from './refusal-reason.ts'

type ProtocolError = InstanceType<typeof errors.OIDCProviderError>

/** Parameters that are JWTs, each with the error that the engine has for a malformed one. */
const jwts: Readonly<Record<string, (message: string) => ProtocolError>> = {
  request: (message) => new errors.InvalidRequestObject(message),
  client_assertion: (message) => new errors.InvalidClientAuth(message),
  id_token_hint: (message) => new errors.InvalidRequest(message),
}

/**
 * Refuses JSON that two readers would understand differently, or that is nested too deep for code
 * that recurses, in `claims` and in the JWTs of a request. The engine parses them with `JSON.parse`
 * and walks what it finds; this comes before.
 *
 * It does NOT verify anything, and it leaves what is no JSON or no JWT at all to the engine.
 */
export function checkJsonParameters(params: Record<string, unknown>): object {
  checkClaims(params.claims)
  for (const [name, refusal] of Object.entries(jwts)) {
    const value = params[name]
    if (typeof value !== 'string') continue
    const [header, payload, ...rest] = value.split('.', 4)
    if (header === undefined || payload === undefined || rest.length !== 1) continue
    const claims = decodeJson(payload)
    if (decodeJson(header) === undefined || claims === undefined) {
      throw refusedFor(
        'request_json',
        refusal(`${name} must be a JWT of JSON objects that name each member once`),
      )
    }
    // A request object may hold it as text, too.
    if (name === 'request') checkClaims(claims.claims)
  }
  return params
}

function checkClaims(claims: unknown): void {
  if (typeof claims !== 'string' || claims === '') return
  if (parseJsonObject(Buffer.from(claims)) === undefined) {
    throw refusedFor(
      'request_json',
      new errors.InvalidRequest('claims must be a JSON object that names each member once'),
    )
  }
}
