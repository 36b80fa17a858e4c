/*
 * A token endpoint as one writes it by hand for one client and one API, to see what is the least
 * that such a grant costs: koa, the secret or assertion, the DPoP proof, its used `jti`, an ES256
 * token, one line of log, one commit. It has neither sessions, accounts, metrics, limits nor any
 * configuration: nobody should serve it.
 */
import {
  createPublicKey,
  generateKeyPairSync,
  hash,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import Koa from 'koa'
import pg from 'pg'
import { pino } from 'pino'
import {
  accountId,
  api,
  type Candidate,
  type CandidateOptions,
  clientIdOf,
  clients,
} from './scenario.ts'

const secret = 'a secret of the benchmark, of some length'
const tables = `
  create table marks (id bytea primary key, expires_at timestamptz not null);
  create table tokens (id bytea primary key, jkt text, client text not null, used_at timestamptz,
                       expires_at timestamptz not null)`

const digest = (value: string) => hash('sha256', value, 'buffer')
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const decode = (part = '') => JSON.parse(Buffer.from(part, 'base64url').toString())

class Refused extends Error {}

function check(holds: unknown): asserts holds {
  if (!holds) throw new Refused()
}

function readJwt(jwt: string, key: (header: { jwk?: JsonWebKey }) => KeyObject) {
  const [header, claims, signature = ''] = jwt.split('.')
  const head = decode(header)
  const by = { key: key(head), dsaEncoding: 'ieee-p1363' } as const
  const input = Buffer.from(jwt.slice(0, jwt.lastIndexOf('.')))
  check(head.alg === 'ES256' && verify('sha256', input, by, Buffer.from(signature, 'base64url')))
  return { head, claims: decode(claims) }
}

function thumbprint({ crv, kty, x, y }: JsonWebKey): string {
  return hash('sha256', JSON.stringify({ crv, kty, x, y }), 'base64url')
}

/** Starts it. */
export async function startByHand({
  databaseUrl,
  port,
  clientKeys,
}: CandidateOptions): Promise<Candidate> {
  const issuer = `http://127.0.0.1:${port}`
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
  await pool.query(tables)
  const log = pino(pino.destination(1))
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const signingKey = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
  const clientKey = createPublicKey({ format: 'jwk', key: clientKeys.jwk as JsonWebKey })
  const known = new Map<string, KeyObject>()
  let statements = 0

  function keyOfProof({ jwk = {} }: { jwk?: JsonWebKey }): KeyObject {
    const name = thumbprint(jwk)
    const key = known.get(name) ?? createPublicKey({ format: 'jwk', key: jwk })
    known.set(name, key)
    return key
  }

  function authenticate(authorization: string | undefined, form: URLSearchParams) {
    const now = Date.now() / 1000
    const assertion = form.get('client_assertion')
    if (assertion) {
      const { claims } = readJwt(assertion, () => clientKey)
      check(claims.aud === issuer && claims.exp > now && claims.iss === claims.sub)
      return { client: claims.sub as string, marks: [claims.jti as string] }
    }
    const credentials = Buffer.from(authorization?.slice(6) ?? '', 'base64').toString()
    const [client = '', given = ''] = credentials.split(':').map(decodeURIComponent)
    const equal = timingSafeEqual(digest(given), digest(secret))
    check(equal)
    return { client, marks: [] }
  }

  function readProof(proof: string) {
    const { head, claims } = readJwt(proof, keyOfProof)
    check(head.typ === 'dpop+jwt' && claims.htm === 'POST' && claims.htu === `${issuer}/token`)
    check(Math.abs(Date.now() / 1000 - claims.iat) < 300)
    return { jkt: thumbprint(head.jwk), jti: claims.jti as string }
  }

  function accessToken(sub: string, client_id: string, jkt: string) {
    const iat = Math.floor(Date.now() / 1000)
    const jti = randomBytes(32).toString('base64url')
    const times = { iat, exp: iat + 600 }
    const claims = { jti, sub, client_id, iss: issuer, aud: api, scope: 'read', ...times }
    const input = `${encode({ alg: 'ES256', typ: 'at+jwt' })}.${encode({ ...claims, cnf: { jkt } })}`
    return `${input}.${sign('sha256', Buffer.from(input), signingKey).toString('base64url')}`
  }

  async function recordAll(client: string, jtis: readonly string[]) {
    statements += 1
    const { rowCount } = await pool.query({
      name: 'mark',
      text: `insert into marks select id, now() + interval '10 minutes' from unnest($1::bytea[]) id
             on conflict do nothing`,
      values: [jtis.map((jti) => digest(client + jti))],
    })
    check(rowCount === jtis.length)
  }

  async function rotate(client: string, jkt: string, token: string, jtis: readonly string[]) {
    const next = randomBytes(32).toString('base64url')
    statements += 1
    const { rowCount } = await pool.query({
      name: 'rotate',
      text: `with marked as (
               insert into marks select id, now() + interval '10 minutes' from unnest($1::bytea[]) id
               on conflict do nothing returning id
             ), used as (
               update tokens set used_at = now() where id = $2 and jkt = $3 and client = $4
                  and used_at is null and expires_at > now()
                  and (select count(*) from marked) = cardinality($1::bytea[])
               returning jkt, client
             ) insert into tokens select $5, jkt, client, null, now() + interval '14 days' from used`,
      values: [jtis.map((jti) => digest(client + jti)), digest(token), jkt, client, digest(next)],
    })
    check(rowCount === 1)
    return next
  }

  const app = new Koa()
  app.use(async (ctx) => {
    try {
      const form = new URLSearchParams(await text(ctx.req))
      const { client, marks: usedIds } = authenticate(ctx.req.headers.authorization, form)
      const { jkt, jti } = readProof(ctx.get('dpop'))
      const isRefresh = form.get('grant_type') === 'refresh_token'
      const access_token = accessToken(isRefresh ? accountId : client, client, jkt)
      const used = [...usedIds, jti]
      const answer = { access_token, token_type: 'DPoP', expires_in: 600 }
      ctx.set('cache-control', 'no-store')
      if (isRefresh) {
        const old = form.get('refresh_token') ?? ''
        ctx.body = { ...answer, refresh_token: await rotate(client, jkt, old, used) }
      } else {
        await recordAll(client, used)
        ctx.body = answer
      }
      log.info({ event: 'tokens.issued', client }, 'tokens issued')
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      ctx.status = 400
      ctx.body = { error: 'invalid_grant' }
    }
  })
  const server = createServer(app.callback())
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    issuer,
    secrets: Object.fromEntries(clients.map((each) => [clientIdOf(each), secret])),
    async makeCredentials({ clientId, bound, count }) {
      const tokens = Array.from({ length: count }, () => randomBytes(32).toString('base64url'))
      await pool.query(
        `insert into tokens select id, $2, $3, null, now() + interval '14 days' from unnest($1::bytea[]) id`,
        [tokens.map(digest), bound.jkt, clientId],
      )
      return tokens
    },
    countStatements: () => statements,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      await pool.end()
    },
  }
}
