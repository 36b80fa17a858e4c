/**
 * The attack table against other validators, as a report. A row counts as right when the outcome
 * is: let in what is to be let in, refuse what is to be refused. How it is refused does not matter.
 *
 * Each is set up as strictly as its options allow. Rows of profiles, certificates and Token Binding
 * are left out where it has no way to say them.
 */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mock } from 'node:test'
import express from 'express'
import { calculateJwkThumbprint, createLocalJWKSet, EmbeddedJWK, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import { ath, audience, issuer, jwks, start } from '../support/verify/fixtures.ts'
import { loadAuth0, version } from '../support/verify/installed.ts'
import { sendHttp1 } from '../support/verify/raw-http.ts'
import { type Attack, attackTable } from './table.ts'

type Peer = (attack: Attack) => Promise<boolean>

export type PeerReport = Readonly<{
  peer: string
  version: string
  total: number
  mistakes: readonly string[]
}>

export async function comparePeers(): Promise<PeerReport[]> {
  mock.timers.enable({ apis: ['Date'], now: start * 1000 })
  await using auth0 = await startAuth0()
  const peers: [string, string, Peer][] = [
    ['oauth4webapi', version('oauth4webapi'), oauth4webapi],
    ['express-oauth2-jwt-bearer', version('express-oauth2-jwt-bearer'), auth0.accepts],
    ['jose, by hand', version('jose'), joseByHand],
  ]
  const reports: PeerReport[] = []
  for (const [peer, of, accepts] of peers) {
    const rows = attackTable.filter(
      (row) => (row.profile ?? 'default') === 'default' && row.attack().facts === undefined,
    )
    const mistakes: string[] = []
    for (const row of rows) {
      const first = row.attack()
      const accepted = [await accepts(first)]
      if (row.repeat) {
        const again = row.attack()
        accepted.push(await accepts(row.case.includes('malleated') ? again : first))
      }
      const right = row.repeat
        ? accepted.filter(Boolean).length === 1
        : accepted[0] === (row.expected === 'accepted')
      if (!right) mistakes.push(`${row.case}: ${accepted.at(-1) ? 'let in' : 'refused'}`)
    }
    reports.push({ peer, version: of, total: rows.length, mistakes })
  }
  mock.timers.reset()
  return reports
}

function toRequest({ method, target, headers, body }: Attack): Request {
  const list = new Headers()
  for (const [name, value] of headers) list.append(name, value)
  return new Request(`https://api.example${target}`, {
    method,
    headers: list,
    ...(body && { body }),
  })
}

const server: oauth.AuthorizationServer = { issuer, jwks_uri: `${issuer}/jwks` }

async function oauth4webapi(attack: Attack): Promise<boolean> {
  try {
    await oauth.validateJwtAccessToken(server, toRequest(attack), audience, {
      requireDPoP: true,
      [oauth.customFetch]: async () => Response.json(jwks),
    })
    return true
  } catch {
    return false
  }
}

async function listen(listener: RequestListener) {
  const server = createServer({ maxHeaderSize: 65_536 }, listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}

async function startAuth0() {
  const { auth } = await loadAuth0()
  const keys = await listen((_, response) => response.end(JSON.stringify(jwks)))
  const app = express()
  app.set('trust proxy', true)
  app.use(
    auth({
      issuer,
      audience,
      jwksUri: `http://127.0.0.1:${keys.port}/`,
      strict: true,
      tokenSigningAlg: 'ES256',
      dpop: { enabled: true, required: true },
    }),
  )
  app.use((_, response) => void response.json({}))
  app.use(((_error, _request, response, _next) => {
    response.status(401).json({})
  }) as express.ErrorRequestHandler)
  const service = await listen(app)
  return {
    async accepts(attack: Attack): Promise<boolean> {
      // It takes the public URL from the request.
      const headers = [...attack.headers, ['X-Forwarded-Proto', 'https']] as const
      const reply = await sendHttp1(service.port, { ...attack, headers }, 'api.example')
      return reply.status === 200
    },
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]()
      await keys[Symbol.asyncDispose]()
    },
  }
}

const keys = createLocalJWKSet(jwks as Parameters<typeof createLocalJWKSet>[0])

/** What a careful developer writes in an afternoon with jose. */
async function joseByHand(attack: Attack): Promise<boolean> {
  try {
    const request = toRequest(attack)
    const [scheme, token = ''] = (request.headers.get('authorization') ?? '').split(' ')
    if (scheme !== 'DPoP') return false
    const { payload } = await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt' })
    const proof = await jwtVerify(request.headers.get('dpop') ?? '', EmbeddedJWK, {
      typ: 'dpop+jwt',
      maxTokenAge: '60s',
      requiredClaims: ['jti', 'htm', 'htu', 'ath'],
    })
    const bound = (payload.cnf as { jkt?: string } | undefined)?.jkt
    const jwk = proof.protectedHeader.jwk as Parameters<typeof calculateJwkThumbprint>[0]
    return (
      proof.payload.htm === request.method &&
      proof.payload.htu === request.url.split('?')[0] &&
      proof.payload.ath === ath(token) &&
      bound === (await calculateJwkThumbprint(jwk))
    )
  } catch {
    return false
  }
}
