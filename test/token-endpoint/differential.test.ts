/*
 * The same generated requests go to the engine's own token endpoint and to ours, each on a credential
 * of its own that is like the other: what is answered and what is done must be alike, or the
 * difference is on the list below with its reason.
 *
 * HOLDFAST_DIFFERENTIAL=5000 makes that many.
 */
import { hash, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { ClientMetadata } from 'oidc-provider'
import pg from 'pg'
import { sessionBindingName } from '../../src/bindings/session-claims.ts'
import { deviceGrant } from '../../src/clients/grant-types.ts'
import { artifactKey } from '../../src/storage/artifact-table.ts'
import { deviceEnvironment } from '../support/device-flow.ts'
import { basic } from '../support/flow.ts'
import { makeSigningKey, type SigningKey } from '../support/jws.ts'
import { api, email, useTestServer } from '../support/server.ts'
import { type Received, type Sent, send, startReference } from './reference.ts'

const server = useTestServer(test, deviceEnvironment)
const count = Number(process.env.HOLDFAST_DIFFERENTIAL ?? 300)
const redirectUri = 'https://app.example/callback'
const verifier = 'v'.repeat(43)
const challenge = hash('sha256', verifier, 'base64url')
const now = () => Math.floor(Date.now() / 1000)

const clientKey = makeSigningKey()
const key = makeSigningKey()
const otherKey = makeSigningKey()

type ClientName = 'public' | 'secret' | 'assertion' | 'bearer' | 'limited'
const clients: Partial<Record<ClientName, ClientMetadata>> = {}
let accountId: string
let disabledId: string
let database: pg.Client
let reference: Awaited<ReturnType<typeof startReference>>

test.before(async () => {
  const web = {
    application_type: 'web',
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials', deviceGrant],
  } as const
  const methods = {
    public: { token_endpoint_auth_method: 'none' },
    secret: { token_endpoint_auth_method: 'client_secret_basic' },
    assertion: {
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [clientKey.jwk as never] },
    },
    bearer: { token_endpoint_auth_method: 'client_secret_basic', binding_method: 'bearer' },
    limited: {
      token_endpoint_auth_method: 'client_secret_basic',
      grant_types: ['authorization_code'],
    },
  } as const
  for (const [name, metadata] of Object.entries(methods)) {
    const asked = { ...web, grant_types: [...web.grant_types], redirect_uris: [redirectUri] }
    clients[name as ClientName] = await server.addClient({ ...asked, ...metadata })
  }
  accountId = (await server.storage.accounts.findByEmail(email))?.account.id ?? ''
  disabledId = randomUUID()
  const disabled = { id: disabledId, email: 'off@example.com', createdAt: new Date() }
  await server.storage.accounts.insert({ ...disabled, disabled: false }, 'no password')
  await server.storage.accounts.setDisabled(disabledId, true)
  database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
  reference = await startReference(server)
})
test.after.always('closes the reference', async () => {
  await database?.end()
  await reference?.[Symbol.asyncDispose]()
})

// Generated cases

type GrantName = 'client_credentials' | 'code' | 'refresh' | 'device'

interface Case {
  readonly number: number
  readonly client: ClientName
  readonly grant: GrantName
  readonly broken: readonly string[]
}

/** A small generator of numbers, so that a failing case can be made again. */
function generator(seed: number) {
  let state = seed
  return (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * below)
  }
}

const names: readonly ClientName[] = ['public', 'secret', 'assertion', 'bearer', 'limited']

/** What chance alone would seldom make. */
const rare: readonly Omit<Case, 'number'>[] = [
  { client: 'public', grant: 'device', broken: ['stored: offline', 'stored: session ended'] },
  { client: 'assertion', grant: 'code', broken: ['assertion: long'] },
  { client: 'secret', grant: 'refresh', broken: ['stored: unbound'] },
  { client: 'secret', grant: 'client_credentials', broken: ['form: resource', 'form: scope'] },
]
const grants: readonly GrantName[] = ['client_credentials', 'code', 'refresh', 'device']

/** What can be changed of a request, of what is stored, or of how the client authenticates. */
const mutations = [
  'proof: none',
  'proof: htm',
  'proof: htu',
  'proof: old',
  'proof: nonce',
  'proof: key',
  'proof: text',
  'client: unknown',
  'client: no credentials',
  'client: wrong secret',
  'client: two ways',
  'client: other id',
  'assertion: expired',
  'assertion: audience',
  'assertion: no jti',
  'assertion: key',
  'assertion: long',
  'assertion: issuer',
  'form: no grant_type',
  'form: unknown grant_type',
  'form: missing',
  'form: twice',
  'form: redirect',
  'form: verifier',
  'form: no verifier',
  'form: short verifier',
  'form: unknown credential',
  'form: scope',
  'form: scope too many',
  'form: scope syntax',
  'form: resource',
  'form: other resource',
  'form: resource syntax',
  'form: resources',
  'form: empty scope',
  'form: extra',
  'stored: consumed',
  'stored: expired',
  'stored: other client',
  'stored: no grant',
  'stored: grant of other',
  'stored: session ended',
  'stored: disabled',
  'stored: dpop_jkt',
  'stored: other dpop_jkt',
  'stored: claims',
  'stored: offline',
  'stored: no openid',
  'stored: rejected',
  'stored: no resource',
  'stored: resources',
  'stored: pending',
  'stored: denied',
  'stored: unbound',
] as const

type Mutation = (typeof mutations)[number]

function casesOf(total: number): Case[] {
  const pick = generator(7)
  const random = Array.from({ length: total - rare.length }, (_, number) => {
    const broken = Array.from(
      { length: pick(3) },
      () => mutations[pick(mutations.length)] as Mutation,
    )
    const client = names[pick(names.length)] as ClientName
    return { number, client, grant: grants[pick(grants.length)] as GrantName, broken }
  })
  return [...random, ...rare.map((given, at) => ({ ...given, number: random.length + at }))]
}

// What is stored for a case

const kinds = { code: 'AuthorizationCode', refresh: 'RefreshToken', device: 'DeviceCode' } as const

interface Stored {
  readonly value: string
  readonly grantId: string
}

async function store({ client: name, grant, broken }: Case): Promise<Stored> {
  const has = (mutation: Mutation) => broken.includes(mutation)
  const [value, grantId, sessionUid] = [randomUUID(), randomUUID(), randomUUID()]
  if (grant === 'client_credentials') return { value, grantId }
  const clientId = clients[name]?.client_id ?? ''
  const owner = has('stored: disabled') ? disabledId : accountId
  const write = (
    kind: string,
    id: string,
    payload: Record<string, unknown>,
    expiresAt = now() + 600,
  ) =>
    server.storage.artifacts.write({
      ...artifactKey(kind, id),
      grantId: payload.grantId as string | undefined,
      uid: payload.uid as string | undefined,
      accountId: payload.accountId as string | undefined,
      sessionUid: payload.sessionUid as string | undefined,
      payload: { iat: now(), exp: expiresAt, kind, ...payload },
      expiresAt: expiresAt + 600,
    })
  const isOffline = has('stored: offline')
  const scope = `${has('stored: no openid') ? '' : 'openid '}${isOffline ? 'offline_access ' : ''}email read`
  if (!has('stored: no grant')) {
    await write('Grant', grantId, {
      accountId: has('stored: grant of other') ? 'other' : owner,
      clientId,
      openid: { scope: 'openid offline_access email', claims: ['email', 'auth_time', 'acr'] },
      resources: { [api]: 'read write' },
      ...(has('stored: rejected') && {
        rejected: { openid: { scope: 'email', claims: ['email'] }, resources: { [api]: 'write' } },
      }),
    })
  }
  const authorizations = { [clientId]: { grantId, sid: 'sid' } }
  if (!has('stored: session ended')) {
    await write('Session', randomUUID(), {
      accountId: owner,
      uid: sessionUid,
      authorizations,
      loginTs: now(),
    })
    const session = {
      uid: sessionUid,
      accountId: owner,
      authorized: authorizations,
      withdrawn: [],
      userAgent: '',
      address: '',
      tbh: undefined,
      signedInAt: now(),
      expiresAt: now() + 600,
    }
    await server.storage.browserRequests.commit({ session })
  }
  const isBound = name !== 'bearer' && grant !== 'code' && !has('stored: unbound')
  const undecided = grant === 'device' && has('stored: pending')
  const denied = grant === 'device' && has('stored: denied')
  const source = {
    clientId: has('stored: other client') ? 'other' : clientId,
    ...(!undecided && !denied && { accountId: owner, grantId, sessionUid }),
    expiresWithSession: !isOffline && !undecided && !denied ? true : undefined,
    scope,
    resource: has('stored: no resource')
      ? undefined
      : has('stored: resources')
        ? [api, 'https://other.example']
        : api,
    nonce: 'n',
    authTime: now() - 60,
    acr: 'urn:holdfast:acr:bound-session',
    ...(has('stored: claims') && {
      claims: { id_token: { auth_time: { essential: true }, email: null, name: null, acr: null } },
    }),
    ...(isBound && { jkt: key.jkt }),
    ...(grant === 'code' && {
      codeChallenge: challenge,
      codeChallengeMethod: 'S256',
      redirectUri,
      ...(has('stored: dpop_jkt') && { dpopJkt: key.jkt }),
      ...(has('stored: other dpop_jkt') && { dpopJkt: otherKey.jkt }),
    }),
    ...(grant === 'refresh' && { gty: 'authorization_code', rotations: 0, iiat: now() }),
    ...(denied && { error: 'access_denied', errorDescription: 'no' }),
  }
  await write(kinds[grant], value, source, now() + (has('stored: expired') ? -10 : 60))
  if (has('stored: consumed'))
    await server.storage.artifacts.consume(artifactKey(kinds[grant], value))
  return { value, grantId }
}

// What is sent for a case

const sign = (by: SigningKey, header: object, claims: object) => by.sign(header, claims)

function proofFor(broken: readonly string[]): string | undefined {
  const has = (mutation: Mutation) => broken.includes(mutation)
  if (has('proof: none')) return undefined
  if (has('proof: text')) return 'no.proof'
  const by = has('proof: key') ? otherKey : key
  return sign(
    by,
    { typ: 'dpop+jwt', jwk: by.jwk },
    {
      htm: has('proof: htm') ? 'GET' : 'POST',
      htu: `${server.issuer}/${has('proof: htu') ? 'other' : 'token'}`,
      jti: randomUUID(),
      iat: now() - (has('proof: old') ? 1000 : 0),
      ...(has('proof: nonce') && { nonce: 'made-up' }),
    },
  )
}

function requestOf({ client: name, grant, broken }: Case, { value }: Stored): Sent {
  const has = (mutation: Mutation) => broken.includes(mutation)
  const client = clients[name] as ClientMetadata
  const form = new URLSearchParams()
  const set = (parameters: Record<string, string>) => {
    for (const [parameter, each] of Object.entries(parameters)) form.set(parameter, each)
  }
  const credential = has('form: unknown credential') ? 'unknown' : value
  if (grant === 'client_credentials') set({ grant_type: grant, scope: 'openid read' })
  if (grant === 'code') {
    set({ grant_type: 'authorization_code', code: credential, redirect_uri: redirectUri })
    if (!has('form: no verifier')) set({ code_verifier: verifier })
    if (has('form: redirect')) set({ redirect_uri: `${redirectUri}/` })
    if (has('form: verifier')) set({ code_verifier: 'w'.repeat(43) })
    if (has('form: short verifier')) set({ code_verifier: 'short' })
  }
  if (grant === 'refresh') set({ grant_type: 'refresh_token', refresh_token: credential })
  if (grant === 'device') set({ grant_type: deviceGrant, device_code: credential })
  if (has('form: no grant_type')) form.delete('grant_type')
  if (has('form: unknown grant_type')) set({ grant_type: 'password' })
  if (has('form: missing'))
    for (const each of ['code', 'refresh_token', 'device_code']) form.delete(each)
  if (has('form: scope')) set({ scope: 'openid email' })
  if (has('form: scope too many')) set({ scope: 'openid write profile' })
  if (has('form: scope syntax')) set({ scope: 'a  b' })
  if (has('form: empty scope')) set({ scope: '' })
  if (has('form: resource')) set({ resource: api })
  if (has('form: other resource')) set({ resource: 'https://nobody.example' })
  if (has('form: resource syntax')) set({ resource: 'api' })
  if (has('form: resources'))
    for (const each of [api, 'https://b.example']) form.append('resource', each)
  if (has('form: extra')) set({ unknown: 'x', another: '[]' })
  const headers = authenticate(name, client, form, broken)
  if (has('form: twice')) form.append('grant_type', 'client_credentials')
  const dpop = name === 'bearer' && !has('proof: key') ? undefined : proofFor(broken)
  return { headers: { ...headers, ...(dpop && { dpop }) }, body: form.toString() }
}

function authenticate(
  name: ClientName,
  client: ClientMetadata,
  form: URLSearchParams,
  broken: readonly string[],
): Record<string, string> {
  const has = (mutation: Mutation) => broken.includes(mutation)
  const clientId = has('client: unknown') ? 'nobody' : client.client_id
  if (has('client: other id')) form.set('client_id', 'other')
  if (name === 'public' || has('client: no credentials')) {
    if (!has('client: other id')) form.set('client_id', clientId)
    return has('client: two ways') ? basic({ client_id: clientId, client_secret: 'x' }) : {}
  }
  if (name === 'assertion') {
    form.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
    const by = has('assertion: key') ? otherKey : clientKey
    const lifetime = has('assertion: expired') ? -60 : has('assertion: long') ? 3600 : 60
    form.set(
      'client_assertion',
      sign(
        by,
        {},
        {
          iss: has('assertion: issuer') ? 'other' : clientId,
          sub: clientId,
          aud: has('assertion: audience') ? 'https://other.example' : server.issuer,
          exp: now() + lifetime,
          ...(!has('assertion: no jti') && { jti: randomUUID() }),
        },
      ),
    )
    return has('client: two ways') ? basic({ client_id: clientId, client_secret: 'x' }) : {}
  }
  const client_secret = has('client: wrong secret') ? 'wrong' : (client.client_secret ?? '')
  if (has('client: two ways')) form.set('client_secret', client_secret)
  return basic({ client_id: clientId, client_secret })
}

/** Java asks for HTML where nobody says what it should ask for, and is to get JSON all the same. */
function asJava({ headers, body }: Sent): Sent {
  const accept = 'text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2'
  return { headers: { ...headers, accept }, body }
}

// What comes of it

interface Effects {
  readonly consumed: boolean
  readonly grant: boolean
  readonly issued: readonly string[]
}

async function effectsOf({ grant }: Case, { value, grantId }: Stored): Promise<Effects> {
  if (grant === 'client_credentials') return { consumed: false, grant: false, issued: [] }
  const { rows } = await database.query<{ kind: string; consumed: boolean; own: boolean }>(
    `select kind, consumed_at is not null as consumed, id = sha256(convert_to($1, 'UTF8')) as own
       from artifacts where grant_id = $2
         or (kind = 'Grant' and id = sha256(convert_to($2, 'UTF8')))
         or (kind = 'DeviceCode' and id = sha256(convert_to($1, 'UTF8')))`,
    [value, grantId],
  )
  return {
    consumed: rows.some(({ own, consumed }) => own && consumed),
    grant: rows.some(({ kind }) => kind === 'Grant'),
    issued: rows
      .filter(({ own, kind }) => !own && kind !== 'Grant')
      .map(({ kind }) => kind)
      .sort(),
  }
}

/** An answer less what no two answers have in common. */
function comparable({ status, body, headers }: Received) {
  const claimsOf = (token: unknown) => {
    if (typeof token !== 'string' || token.split('.').length !== 3) return undefined
    // Of an ID token it is an extension of ours, with tests of its own.
    const { iat, exp, jti, auth_time, [sessionBindingName]: binding, ...claims } = decodeJwt(token)
    return {
      ...claims,
      lifetime: Number(exp) - Number(iat),
      hasAuthTime: auth_time !== undefined,
      hasName: jti !== undefined,
      session: jti === undefined ? undefined : binding,
    }
  }
  return {
    status,
    error: body.error,
    description: body.error_description,
    members: Object.keys(body).sort(),
    scope: body.scope,
    expiresIn: body.expires_in,
    type: body.token_type,
    access: claimsOf(body.access_token),
    id: claimsOf(body.id_token),
    nonce: headers['dpop-nonce'] !== undefined,
    cache: headers['cache-control'],
    contentType: headers['content-type'],
    challenge: headers['www-authenticate'] !== undefined,
  }
}

type Comparable = ReturnType<typeof comparable>

interface Compared {
  readonly given: Case
  readonly theirs: Comparable & { effects: Effects }
  readonly ours: Comparable & { effects: Effects }
}

/** Whether our answer is the one that it should be instead. */
type Difference = (compared: Compared) => boolean

const refusedBoth = ({ theirs, ours }: Compared) => theirs.status >= 400 && ours.status >= 400
const nothingDone = ({ ours }: Compared) =>
  ours.effects.issued.length === 0 && !ours.effects.consumed

/** Where the two differ on purpose. Each has been used, or the test fails. */
const differences: Readonly<Record<string, Difference>> = {
  'a request without the proof of its client is refused before anything else': ({ given, ours }) =>
    given.client !== 'bearer' &&
    given.broken.includes('proof: none') &&
    ours.error === 'invalid_grant',
  'returns unauthorized_client for a grant that a client must not use': ({ theirs, ours }) =>
    theirs.error === 'invalid_request' && ours.error === 'unauthorized_client',
  'a refusal may have another reason first, and the same end': (compared) =>
    refusedBoth(compared) && nothingDone(compared) && compared.given.broken.length > 1,
  'a late refusal consumes nothing': (compared) =>
    refusedBoth(compared) &&
    compared.theirs.error === compared.ours.error &&
    compared.theirs.effects.consumed &&
    !compared.ours.effects.consumed,
  'reuse ends the family, and leaves what the person has allowed': (compared) =>
    refusedBoth(compared) &&
    compared.given.broken.includes('stored: consumed') &&
    compared.theirs.error === compared.ours.error &&
    compared.ours.effects.issued.length === 0,
  'refresh tokens and device codes of bound clients that are bound to nothing are refused': ({
    given,
    ours,
  }) => given.broken.includes('stored: unbound') && ours.error === 'invalid_grant',
  'a device code is good for the key that it was asked for by': ({ given, ours }) =>
    given.grant === 'device' &&
    given.broken.includes('proof: key') &&
    ours.error === 'invalid_grant',
  'a device code needs the session in which it was approved': ({ given, ours }) =>
    given.grant === 'device' &&
    given.broken.includes('stored: session ended') &&
    ours.error === 'invalid_grant',
  'scopes of one API stand for its resource': ({ given, theirs, ours }) =>
    given.grant === 'client_credentials' &&
    [theirs.status, ours.status].every((status) => status === 200) &&
    theirs.access === undefined &&
    ours.access?.aud === api,
  'client credentials of which no scope is left are refused': ({ given, theirs, ours }) =>
    given.grant === 'client_credentials' && theirs.status === 200 && ours.error === 'invalid_scope',
  'assertions are good for ten minutes at most': ({ given, ours }) =>
    given.broken.includes('assertion: long') && ours.error === 'invalid_client',
  'the words of a refusal say more, or are of another language': ({ theirs, ours }) =>
    theirs.error === ours.error &&
    theirs.status === ours.status &&
    theirs.description !== ours.description &&
    JSON.stringify({ ...theirs, description: '', members: [] }) ===
      JSON.stringify({ ...ours, description: '', members: [] }),
}

test('answers and does what the engine does, but for what is listed', async (t) => {
  const used = new Map<string, number>()
  if (count > 300) t.timeout(600_000)
  const unexplained: Compared[] = []
  let granted = 0
  for (const given of casesOf(count)) {
    const [first, second] = await Promise.all([store(given), store(given)])
    const [theirs, ours] = await Promise.all([
      send(server, reference.port, requestOf(given, first)),
      send(server, Number(new URL(server.issuer).port), asJava(requestOf(given, second))),
    ])
    const compared = {
      given,
      theirs: { ...comparable(theirs), effects: await effectsOf(given, first) },
      ours: { ...comparable(ours), effects: await effectsOf(given, second) },
    }
    if (ours.status === 200) granted += 1
    if (JSON.stringify(compared.theirs) === JSON.stringify(compared.ours)) continue
    const reason = Object.keys(differences).find((name) => differences[name]?.(compared))
    if (reason) used.set(reason, (used.get(reason) ?? 0) + 1)
    else unexplained.push(compared)
  }
  t.deepEqual(unexplained.slice(0, 20), [])
  t.true(granted > count / 10)
  t.log(`${granted} of ${count} requests were granted`, Object.fromEntries(used))
  if (count >= 300)
    t.deepEqual(
      Object.keys(differences).filter((name) => !used.has(name)),
      [],
    )
})

test('of concurrent uses ours lets one through, and ends what a code used twice has led to', async (t) => {
  const port = Number(new URL(server.issuer).port)
  for (const grant of ['code', 'refresh', 'device'] as const) {
    const given: Case = { number: 0, client: 'secret', grant, broken: [] }
    const stored = await store(given)
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => send(server, port, requestOf(given, stored))),
    )
    t.is(answers.filter(({ status }) => status === 200).length, 1, grant)
    t.is(answers.filter(({ body }) => body.error === 'invalid_grant').length, 7, grant)
    const { consumed, issued } = await effectsOf(given, stored)
    t.deepEqual([consumed, issued.length > 0], [true, grant !== 'code'], grant)
  }
})

/*
 * What the comparison above was made with. A release that changes one of these files is compared
 * again: look at what has changed in it, and put the new hash here.
 */
const handlers = {
  'authorization_code.js': '2d46dcf995804956042bdecef1a100af83891cfd682a58b1a0fdf722f6159335',
  'client_credentials.js': 'eade620806012fa4000573d28cb71fabb79d4089e2801356deb387eb1c78262d',
  'device_code.js': '02d0e9200f0d37c589f12e67d2cfff203a6db67861792651dec666d76fffa905',
  'refresh_token.js': 'd3bcebb1e448545e0deff5b935f6233964b69c40f5ab2f639c6fdb5e81c5c1d2',
}

for (const [file, known] of Object.entries(handlers)) {
  test(`the engine's handler ${file} is the one that was compared`, async (t) => {
    const path = import.meta.resolve(`oidc-provider/lib/actions/grants/${file}`)
    t.is(hash('sha256', await readFile(new URL(path)), 'hex'), known)
  })
}
