/** Signs what this server says, and reads again what it has said. */

import { parseJwt, verifySignature } from '@holdfast/verify/authorization-server'
import { perView, signingKeysOf } from '../engine/engine-keys.ts'
import type { LocalSigningKey } from '../engine/local-signing-key.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import type { SignJwt } from './issue.ts'
import type { OwnClaims, ReadOwnToken } from './presented-token.ts'

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Signs by the key of the moment, the first one of its algorithm. */
export function createSigner(ring: Pick<KeyRing, 'view'>): SignJwt {
  const headersOf = perView(() => new Map<string, string>())
  return (algorithm, typ, claims) => {
    const view = ring.view()
    const key = signingKeysOf(view).find(({ alg }) => alg === algorithm)
    if (!key) throw new TypeError(`there is no key for ${algorithm}`)
    const headers = headersOf(view)
    const name = `${algorithm} ${typ}`
    const header = headers.get(name) ?? encode({ alg: algorithm, typ, kid: key.kid })
    headers.set(name, header)
    const input = `${header}.${encode(claims)}`
    const signature = key.sign(Buffer.from(input, 'latin1'))
    const join = (bytes: Buffer) => `${input}.${bytes.toString('base64url')}`
    return signature instanceof Promise ? signature.then(join) : join(signature)
  }
}

/** Reads JWT access tokens that one of the present keys has signed. */
export function createOwnTokenReader(ring: Pick<KeyRing, 'view'>, issuer: string): ReadOwnToken {
  return (token, now) => {
    const jwt = parseJwt(token)
    if (jwt?.header.typ !== 'at+jwt') return undefined
    const { alg, kid } = jwt.header
    const isOurs = ({ alg: ofKey, kid: name }: LocalSigningKey) => ofKey === alg && name === kid
    const key = signingKeysOf(ring.view()).find(isOurs)
    if (!key || !verifySignature(key.alg, key.keyObject(), jwt.input, jwt.signature)) {
      return undefined
    }
    const { iss, exp } = jwt.claims
    if (iss !== issuer || typeof exp !== 'number' || exp <= now) return undefined
    return jwt.claims as unknown as OwnClaims
  }
}
