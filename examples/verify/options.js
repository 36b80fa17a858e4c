// What a verifier can do beside the quick starts; the READMEs and docs show parts of this file.
import {
  createDPoPNonces,
  createIdTokenVerifier,
  createVerifier,
  readClientCertificateHeader,
} from '@holdfast/verify'
import { expressVerify } from '@holdfast/verify/express'
import { koaVerify } from '@holdfast/verify/koa'
import { createPostgresReplayStore } from '@holdfast/verify/postgres'
import { createRedisReplayStore } from '@holdfast/verify/redis'
import { metrics } from '@opentelemetry/api'

const issuer = 'https://as.example'
const audience = 'https://api.example'

export async function withoutFramework(verifier, request, socket) {
  const { claims, methods } = await verifier.verify({
    method: request.method,
    url: request.url,
    headers: request.rawHeaders, // or headersDistinct, or a fetch Headers: not `headers`
    certificate: socket.getPeerX509Certificate?.()?.raw,
  })
  return { claims, methods }
}

export function behindProxy(verifier) {
  const facts = (req) => {
    const trusted = req.socket.remoteAddress === '10.0.0.7'
    const certificate = readClientCertificateHeader(req.rawHeaders, { trusted, format: 'rfc9440' })
    return certificate ? { certificate } : {}
  }
  return expressVerify(verifier, { facts })
}

export function behindNginx() {
  const verifier = createVerifier({ issuer, audience })
  const verify = koaVerify(verifier, {
    facts: ({ req }) => ({
      certificate: readClientCertificateHeader(req.rawHeaders, {
        trusted: req.socket.remoteAddress === '10.0.0.7',
        format: 'nginx',
      }),
    }),
  })
  return verify
}

export function withReplicas(client, pool) {
  const inRedis = createRedisReplayStore({ send: (args) => client.sendCommand(args) })
  const inPostgres = createPostgresReplayStore({ client: pool })
  const verifier = createVerifier({ issuer, audience, replicas: 3, replay: inRedis })
  return { inPostgres, verifier }
}

export function withNonces(secret) {
  const nonces = createDPoPNonces({ secrets: [Buffer.from(secret, 'base64')] })
  const verifier = createVerifier({ issuer, audience, dpop: { nonces } })
  return verifier
}

export function withIntrospection(clientSecret) {
  const verifier = createVerifier({
    issuer: 'https://as.example',
    audience: 'https://api.example',
    introspection: {
      authentication: { method: 'client_secret_basic', clientId: 'api', clientSecret },
      signed: true, // RFC 9701
    },
  })
  return verifier
}

export function withSeveralIssuers() {
  const verifier = createVerifier({
    audience: 'https://api.example',
    issuers: [
      { issuer: 'https://as.example' },
      { issuer: 'https://partner.example', audience: 'urn:partner:notes', methods: ['mtls'] },
    ],
  })
  return verifier
}

export async function checkIdToken(idToken, nonce, session) {
  const { verifyIdToken } = createIdTokenVerifier({ issuer: 'https://op.example', clientId: 'rp' })
  await verifyIdToken(idToken, { nonce, jkt: session.deviceKeyThumbprint })
}

export function withEvents(log) {
  const counter = metrics.getMeter('@holdfast/verify').createCounter('holdfast.verify.requests')
  const verifier = createVerifier({
    issuer,
    audience,
    onEvent(event) {
      if (event.type === 'accepted') counter.add(1, { outcome: 'accepted' })
      if (event.type === 'refused')
        counter.add(1, { outcome: event.code, enforced: event.enforced })
      if (event.type === 'leaked') log.warn({ ...event.token }, 'a bound token has leaked')
    },
  })
  return verifier
}
