import { makeKey, signJws, type TestKey } from './keys.ts'

type Members = Record<string, unknown>

export const deviceKey = makeKey()

/** A proof as a browser makes it, with some members changed; `undefined` removes one. */
export function registrationProof(
  claims: Members = {},
  header: Members = {},
  key: TestKey = deviceKey,
): string {
  return refreshProof(claims, { jwk: key.publicJwk, ...header }, key)
}

export function refreshProof(
  claims: Members = {},
  header: Members = {},
  key: TestKey = deviceKey,
): string {
  return signJws(key, { alg: key.alg, typ: 'dbsc+jwt', ...header }, { jti: 'challenge', ...claims })
}
