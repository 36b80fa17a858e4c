import { generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto'
import test from 'ava'
import type { KeyView } from '../../src/keys/key-ring.ts'
import { createIntrospection } from '../../src/token-endpoint/introspection.ts'
import { createOwnTokenReader } from '../../src/token-endpoint/own-tokens.ts'
import {
  createTokenFinder,
  type FoundToken,
  type StoredToken,
} from '../../src/token-endpoint/presented-token.ts'
import type { Found } from '../../src/token-endpoint/stored.ts'
import type { TokenClient } from '../../src/token-endpoint/token-request.ts'
import { client, credential, issuer, key, now } from './fixtures.ts'

/* Whether a token is active, by a valid one of which one thing is broken. */

/** What a client is answered about a token. */
async function ask(found: FoundToken | undefined, by: Partial<TokenClient> = {}): Promise<object> {
  const introspect = createIntrospection({
    issuer,
    authentication: {
      findClient: async () => client({ authenticatesBy: 'client_secret_post', ...by }),
      clockToleranceS: 10,
      authorities: undefined,
    },
    findToken: async () => found,
    replays: { insert: async () => true },
    sign: () => '',
  })
  const { result } = await introspect({
    form: {
      client_id: 'app',
      token: 'value',
      ...(by.authenticatesBy ? {} : { client_secret: 'secret' }),
    },
    authorization: undefined,
    dpop: undefined,
    wantsSigned: false,
    origin: undefined,
    connection: { certificate: undefined, tokenBinding: undefined },
    uri: issuer,
    audiences: [issuer],
    endpointUris: [],
    now,
  })
  return (result as { body: object }).body
}

const inactive = { active: false }

function stored(
  source: object = {},
  rest: Partial<Found<StoredToken>> = {},
  kind: 'AccessToken' | 'RefreshToken' = 'AccessToken',
): FoundToken {
  return { kind, found: credential('RefreshToken', source, rest) as Found<StoredToken> }
}

const jwt = (isActive = true): FoundToken => ({
  kind: 'JWT',
  claims: { jti: 'j', sub: 'ada', client_id: 'app', exp: now + 60, cnf: { jkt: key.jkt } },
  isActive,
})

test('active tokens of every kind are described', async (t) => {
  const bound = { active: true, client_id: 'app', cnf: { jkt: key.jkt }, sub: 'ada' }
  t.like(await ask(stored()), { ...bound, token_type: 'DPoP' })
  t.like(await ask(stored({}, {}, 'RefreshToken')), { ...bound, token_type: undefined })
  t.like(await ask(jwt()), { ...bound, token_type: 'DPoP' })
  const service = { accountId: undefined, grantId: undefined, jkt: undefined }
  const alone = { grant: undefined, session: undefined, account: undefined }
  t.like(await ask(stored(service, alone)), { active: true, token_type: 'Bearer', cnf: undefined })
})

const broken: Readonly<Record<string, FoundToken | undefined>> = {
  'an unknown one': undefined,
  'an expired one': stored({ exp: now }),
  'a refresh token that was used': stored({}, { consumedAt: now - 1 }, 'RefreshToken'),
  'one whose session has ended': stored({}, { session: undefined }),
  'one whose grant has ended': stored({}, { grant: undefined }),
  'one whose grant is of another person': stored(
    {},
    { grant: { accountId: 'other', clientId: 'app' } },
  ),
  'one whose account is gone': stored({}, { account: undefined }),
  'a JWT that was revoked': jwt(false),
}

for (const [name, token] of Object.entries(broken)) {
  test(`${name} is not active`, async (t) => {
    t.deepEqual(await ask(token), inactive)
  })
}

test('a client that does not authenticate, or has registered itself, sees its own tokens only', async (t) => {
  const own = stored()
  const free = stored({ clientId: 'other', grantId: undefined })
  for (const by of [{ authenticatesBy: 'none' }, { selfRegistered: true }] as const) {
    t.like(await ask(own, by), { active: true })
    t.deepEqual(await ask(free, by), inactive)
  }
  t.like(await ask(free), { active: true })
})

test('asks for the account of a person, and for none of a service', async (t) => {
  const asked: unknown[] = []
  const find = (sub: string) =>
    createTokenFinder({
      credentials: {
        stateOf: async (_key: object, account: string | undefined) => {
          asked.push(account)
          return 'active'
        },
      } as never,
      readOwnToken: () => ({ jti: 'j', sub, client_id: 'app', exp: now + 60 }),
      findClient: async (id) => (id === 'app' ? client() : undefined),
    })('a.b.c', now)
  t.like(await find('ada'), { kind: 'JWT', isActive: true })
  t.like(await find('app'), { kind: 'JWT', isActive: true })
  t.deepEqual(asked, ['ada', undefined])
})

test('reads only what one of the keys of this server has signed as an access token', (t) => {
  const keys = ['a', 'b'].map((kid) => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    return { kid, privateKey, jwk: { ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256' } }
  })
  const [a, b] = keys as [(typeof keys)[0], (typeof keys)[0]]
  const none = { EdDSA: [], RS256: [], PS256: [] }
  const view = { ES256: keys.map(({ jwk }) => jwk), ...none } as unknown as KeyView
  const read = createOwnTokenReader({ view: () => view }, issuer)
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const token = (by: KeyObject, header: object = {}, claims: object = {}) => {
    const protectedHeader = { alg: 'ES256', typ: 'at+jwt', kid: 'a', ...header }
    const input = `${encode(protectedHeader)}.${encode({ iss: issuer, exp: now + 60, ...claims })}`
    const signature = signBytes('sha256', Buffer.from(input), {
      key: by,
      dsaEncoding: 'ieee-p1363',
    })
    return `${input}.${signature.toString('base64url')}`
  }
  t.truthy(read(token(a.privateKey), now))
  t.truthy(read(token(b.privateKey, { kid: 'b' }), now))
  const refused: Readonly<Record<string, string>> = {
    'another type': token(a.privateKey, { typ: 'JWT' }),
    'another algorithm': token(a.privateKey, { alg: 'ES384' }),
    'an unknown key': token(a.privateKey, { kid: 'c' }),
    'a signature by another key': token(b.privateKey),
    'another issuer': token(a.privateKey, {}, { iss: 'https://other.example' }),
    'no end': token(a.privateKey, {}, { exp: undefined }),
    'an end in the past': token(a.privateKey, {}, { exp: now }),
    'no JWT': 'a.b.c',
  }
  for (const [name, each] of Object.entries(refused)) t.is(read(each, now), undefined, name)
})
