import {
  createPrivateKey,
  createSign,
  generateKeyPairSync,
  hash,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { isoCBOR } from '@simplewebauthn/server/helpers'
import { password } from './server.ts'
import type { Page, UserAgent } from './user-agent.ts'

/** What a browser and its authenticator make of the options of a page, with one thing broken. */
export interface Ceremony {
  readonly origin?: string
  readonly rpId?: string
  readonly challenge?: string
  readonly userVerified?: boolean
  readonly userPresent?: boolean
  readonly crossOrigin?: boolean
  readonly topOrigin?: string
  readonly type?: string
  /** The signature counter; the authenticator counts by itself from then on. */
  readonly counter?: number
  readonly userHandle?: string
  readonly credentialId?: string
  readonly backupEligible?: boolean
  readonly signBy?: KeyObject
}

export interface Authenticator {
  readonly credentialId: string
  /** The answer to creation options (`PublicKeyCredentialCreationOptionsJSON`). */
  create(options: CreationOptions, broken?: Ceremony): string
  /** The answer to the options of a page that asks for a passkey. */
  get(options: { challenge: string; rpId: string }, broken?: Ceremony): string
}

/** How an authenticator vouches for a new passkey. */
export interface TestAttestation {
  /** Default `packed`. */
  readonly format?: string
  /** DER, that of the key first; of none the passkey vouches for itself. */
  readonly certificates?: readonly Uint8Array[]
  /** PEM of the key of the first certificate. */
  readonly key?: string
}

export interface CreationOptions {
  readonly challenge: string
  readonly rp: { readonly id: string }
  readonly user: { readonly id: string }
}

const sign = (data: Uint8Array, client: Uint8Array, key: KeyObject) =>
  createSign('sha256')
    .update(Buffer.concat([data, hash('sha256', client, 'buffer')]))
    .sign(key)

const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')

/** A passkey provider on ES256, with a counter or always 0, in the browser of a page at `origin`. */
export function createAuthenticator(
  origin: string,
  {
    counts = false,
    aaguid = Buffer.alloc(16),
    attestation,
  }: { counts?: boolean; aaguid?: Buffer; attestation?: TestAttestation } = {},
): Authenticator {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const id = randomBytes(32)
  let counter = 0
  let userHandle = ''

  function clientData(type: string, challenge: string, broken: Ceremony) {
    const { crossOrigin = false, topOrigin } = broken
    return Buffer.from(
      JSON.stringify({
        type: broken.type ?? type,
        challenge: broken.challenge ?? challenge,
        origin: broken.origin ?? origin,
        crossOrigin,
        ...(topOrigin && { topOrigin }),
      }),
    )
  }

  function authenticatorData(rpId: string, broken: Ceremony, attested = Buffer.alloc(0)) {
    const { userPresent = true, userVerified = true, backupEligible = true } = broken
    counter = broken.counter ?? (counts ? counter + 1 : 0)
    const flags =
      Number(userPresent) |
      (Number(userVerified) << 2) |
      (Number(backupEligible) << 3) |
      (Number(attested.length > 0) << 6)
    const head = Buffer.alloc(5)
    head.writeUInt8(flags, 0)
    head.writeUInt32BE(counter, 1)
    return Buffer.concat([hash('sha256', broken.rpId ?? rpId, 'buffer'), head, attested])
  }

  function cosePublicKey() {
    const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
    const members: [number, number | Uint8Array][] = [
      [1, 2],
      [3, -7],
      [-1, 1],
      [-2, new Uint8Array(Buffer.from(x, 'base64url'))],
      [-3, new Uint8Array(Buffer.from(y, 'base64url'))],
    ]
    return isoCBOR.encode(new Map(members))
  }

  const answer = (response: object, credentialId = base64url(id)) =>
    JSON.stringify({
      id: credentialId,
      rawId: credentialId,
      type: 'public-key',
      response,
      clientExtensionResults: {},
    })

  return {
    credentialId: base64url(id),

    create({ challenge, rp, user }, broken = {}) {
      userHandle = user.id
      const length = Buffer.alloc(2)
      length.writeUInt16BE(id.length)
      const attested = Buffer.concat([aaguid, length, id, cosePublicKey()])
      const authData = new Uint8Array(authenticatorData(rp.id, broken, attested))
      const client = clientData('webauthn.create', challenge, broken)
      const { format = 'packed', certificates = [], key } = attestation ?? { format: 'none' }
      const by = key === undefined ? privateKey : createPrivateKey(key)
      const statement: [string, number | Uint8Array | Uint8Array[]][] = [
        ['alg', -7],
        ['sig', new Uint8Array(sign(authData, client, by))],
      ]
      if (certificates.length > 0) {
        statement.push(['x5c', certificates.map((der) => new Uint8Array(der))])
      }
      type Statement = Map<string, number | Uint8Array | Uint8Array[]>
      const members: [string, string | Uint8Array | Statement][] = [
        ['fmt', format],
        ['attStmt', new Map(format === 'none' ? [] : statement)],
        ['authData', authData],
      ]
      const object = isoCBOR.encode(new Map(members))
      return answer({
        clientDataJSON: base64url(client),
        attestationObject: base64url(object),
        transports: ['internal'],
      })
    },

    get({ challenge, rpId }, broken = {}) {
      const data = authenticatorData(rpId, broken)
      const client = clientData('webauthn.get', challenge, broken)
      const signature = sign(data, client, broken.signBy ?? privateKey)
      const response = {
        clientDataJSON: base64url(client),
        authenticatorData: base64url(data),
        signature: base64url(signature),
        userHandle: broken.userHandle ?? userHandle,
      }
      return answer(response, broken.credentialId)
    },
  }
}

/** The options that a page gives to its script. */
export function passkeyOptions<T>(html: string): T {
  const [, json] = /data-passkey-(?:request|creation)="([^"]+)"/.exec(html) ?? []
  if (json === undefined) throw new Error('the page asks for no passkey')
  return JSON.parse(json.replaceAll('&quot;', '"').replaceAll('&amp;', '&')) as T
}

export type PasskeyRequestOptions = { challenge: string; rpId: string; allow: string[] }

const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)?.[1] ?? ''

/** Up to the page that has the browser make a passkey, in a session of the test account. */
export async function beginCreation(issuer: string, agent: UserAgent) {
  const add = `${issuer}/security/passkeys/add`
  const token = tokenOf((await agent.get(add)).text)
  const page = await agent.post(add, { token, credential: '', password })
  return { token: tokenOf(page.text), options: passkeyOptions<CreationOptions>(page.text) }
}

export async function addPasskey(
  issuer: string,
  agent: UserAgent,
  authenticator: Authenticator,
): Promise<Page> {
  const { token, options } = await beginCreation(issuer, agent)
  const credential = authenticator.create(options)
  return agent.post(`${issuer}/security/passkeys`, { token, credential, name: 'Laptop' })
}
