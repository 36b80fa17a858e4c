// What an attacker sends to a gate, byte for byte, for tests of the gate alone and behind each proxy.
import { hash, randomUUID } from 'node:crypto'
import { type Answer, sendBytes } from './raw-request.ts'
import { accessToken, dpopProof, start } from './verify/fixtures.ts'
import { makeKey } from './verify/keys.ts'

export interface Attack {
  readonly method?: string
  /** Under a folder of the row's own, unless it is a whole target. */
  readonly target?: string
  /** The target that the proof is for. */
  readonly proven?: string
  readonly host?: string
  readonly version?: string
  readonly lines?: readonly string[]
  readonly body?: string
  readonly token?: Record<string, unknown>
  readonly proof?: Record<string, unknown>
  /** Instead of the usual two credentials. */
  readonly credentials?: (token: string, proof: string) => readonly string[]
  /** Whether the client sends no more than this. */
  readonly cutOff?: boolean
  /** Changes the bytes of the head. */
  readonly edit?: (head: string) => string
}

/** Where attacks go: what clients call, and where it listens. */
export interface Attacked {
  /** The origin that proofs and tokens are for. */
  readonly audience: string
  /** The one that listens. */
  readonly origin: string
  /** The authority of its certificate, PEM, where it speaks TLS. */
  readonly ca?: string
  readonly patienceMs?: number
}

/** Sends a request that is valid but for the attack; `path` is one that no other row uses. */
export async function attackOn(
  { audience, origin, ...how }: Attacked,
  row: Attack,
): Promise<{ answer: Answer; path: string }> {
  const { method = 'GET', version = '1.1', lines = [], body = '' } = row
  const { token: claims, proof: proofClaims } = row
  const path = `/${randomUUID()}`
  const target = row.target ?? path
  const token = accessToken({ aud: audience, ...claims })
  const htu = audience + (row.proven ?? target.replace(/\?.*/, ''))
  const proof = dpopProof(token, { htm: method, htu, ...proofClaims })
  const credentials =
    row.credentials ?? ((): string[] => [`Authorization: DPoP ${token}`, `DPoP: ${proof}`])
  const host = row.host ?? `Host: ${new URL(audience).host}`
  const head = [
    `${method} ${target} HTTP/${version}`,
    ...(host === '' ? [] : [host]),
    'Connection: close',
    ...credentials(token, proof),
    ...lines,
  ].join('\r\n')
  const edited = `${row.edit?.(head) ?? head}\r\n\r\n${body}`
  const cutOff = row.cutOff ?? false
  const answer = await sendBytes(origin, Buffer.from(edited, 'latin1'), { cutOff, ...how })
  return { answer, path }
}

export const post = { method: 'POST' } as const

/** All rows, for a host as clients write it. */
export function attacksOn(host: string) {
  const { hostname: name } = new URL(`http://${host}`)
  const smuggled = `GET /admin HTTP/1.1\r\nHost: ${host}\r\n\r\n`

  /** Answered by 400 or the status beside, and never seen by the application. */
  const refused: Record<string, Attack & { readonly status?: number }> = {
    'both Content-Length and Transfer-Encoding': {
      ...post,
      lines: ['Content-Length: 4', 'Transfer-Encoding: chunked'],
      body: `0\r\n\r\n${smuggled}`,
    },
    'Transfer-Encoding before Content-Length': {
      ...post,
      lines: ['Transfer-Encoding: chunked', 'Content-Length: 4'],
      body: `0\r\n\r\n${smuggled}`,
    },
    'two lengths that differ': {
      ...post,
      lines: ['Content-Length: 0', 'Content-Length: 44'],
      body: smuggled,
    },
    'two lengths that are the same': {
      ...post,
      lines: ['Content-Length: 1', 'Content-Length: 1'],
      body: 'x',
    },
    'a list of lengths': { ...post, lines: ['Content-Length: 1, 1'], body: 'x' },
    'a length with a sign': { ...post, lines: ['Content-Length: +1'], body: 'x' },
    'a negative length': { ...post, lines: ['Content-Length: -1'], body: 'x' },
    'a hexadecimal length': { ...post, lines: ['Content-Length: 0x1'], body: 'x' },
    'a length beyond all integers': {
      ...post,
      lines: ['Content-Length: 99999999999999999999999999'],
      body: 'x',
    },
    'an unknown transfer coding': {
      ...post,
      lines: ['Transfer-Encoding: xchunked'],
      body: '0\r\n\r\n',
    },
    'a transfer coding after chunked': {
      ...post,
      lines: ['Transfer-Encoding: chunked, identity'],
      body: '0\r\n\r\n',
    },
    'chunked twice': {
      ...post,
      lines: ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
      body: '0\r\n\r\n',
    },
    'a space before a colon': {
      ...post,
      lines: ['Transfer-Encoding : chunked'],
      body: '0\r\n\r\n',
    },
    'a folded header': { lines: ['X-A: 1\r\n Transfer-Encoding: chunked'] },
    'a folded host': { edit: (head) => head.replace(/Host: /, 'Host: evil.example\r\n ') },
    'a space before the first header': { edit: (head) => head.replace('\r\nHost', '\r\n Host') },
    'a header without a name': { lines: [': x'] },
    'a header without a colon': { lines: ['Holdfast-Identity'] },
    'a lone line feed in a header': { lines: ['X-A: 1\nHoldfast-Identity: forged'] },
    'a lone carriage return in a header': { lines: ['X-A: 1\rHoldfast-Identity: forged'] },
    'a NUL in a header': { lines: ['X-A: 1\0'] },
    'lines that end with a line feed only': { edit: (head) => head.replaceAll('\r\n', '\n') },
    'a chunk size with a sign': {
      ...post,
      lines: ['Transfer-Encoding: chunked'],
      body: '+1\r\nx\r\n0\r\n\r\n',
    },
    'a chunk size beyond all integers': {
      ...post,
      lines: ['Transfer-Encoding: chunked'],
      body: 'fffffffffffffffff1\r\nx\r\n0\r\n\r\n',
    },
    'a chunk that ends with a line feed only': {
      ...post,
      lines: ['Transfer-Encoding: chunked'],
      body: '1\nx\n0\n\n',
    },
    'a chunk longer than its size': {
      ...post,
      lines: ['Transfer-Encoding: chunked'],
      body: `1\r\nxy\r\n0\r\n\r\n`,
    },
    'a body that ends early': { ...post, lines: ['Content-Length: 5'], body: 'x', cutOff: true },
    'two hosts': { host: `Host: ${host}\r\nHost: evil.example` },
    'one host twice': { host: `Host: ${host}\r\nHost: ${host}` },
    'no host': { host: '' },
    'an empty host': { host: 'Host: ' },
    'an unknown host': { host: 'Host: evil.example', status: 421 },
    'a host with user information': { host: `Host: ${host}@evil.example`, status: 421 },
    'a host with another port': { host: `Host: ${name}:8443`, status: 421 },
    'a host with a dot at its end': { host: `Host: ${name}.`, status: 421 },
    'an absolute target of another host': { target: 'https://evil.example/x', proven: '/x' },
    'an absolute target with user information': { target: `https://a@${host}/x`, proven: '/x' },
    'the target of a forward proxy': { method: 'CONNECT', target: `${name}:443`, proven: '/' },
    'the target *': { method: 'OPTIONS', target: '*', proven: '/' },
    'a target without a slash': { target: 'x', proven: '/x' },
    'a fragment in the target': { target: '/x#y', proven: '/x' },
    'a method in lower case': { method: 'get' },
    TRACE: { method: 'TRACE' },
    'another protocol version': { version: '2.0', status: 505 },
    'dot segments': { target: '/public/../admin' },
    'a dot segment': { target: '/public/./x' },
    'encoded dot segments': { target: '/public/%2e%2E/admin' },
    'dot segments that are encoded twice': { target: '/public/%252e%252e/admin' },
    'dot segments behind a semicolon': { target: '/public/..;/admin' },
    'dot segments behind an encoded slash': { target: '/public%2f..%2fadmin' },
    'an encoded slash': { target: '/public%2Fadmin' },
    'an encoded backslash': { target: '/public%5Cadmin' },
    'a backslash': { target: '/public\\..\\admin', proven: '/public' },
    'an empty segment': { target: '/public//admin' },
    'two slashes at the start': { target: '//evil.example/admin' },
    'a semicolon': { target: '/admin;x=/public' },
    'an encoded semicolon': { target: '/admin%3bx' },
    'an encoded NUL': { target: '/public%00/admin' },
    'an encoded line break': { target: '/public%0d%0aX' },
    'a percent sign alone': { target: '/public%', proven: '/public' },
    'a byte beyond ASCII in the path': { target: '/\xe4dmin', proven: '/' },
    'a protected path in other case': { target: '/ADMIN/users' },
    'a protected path with an encoded letter': { target: '/%61dmin/users' },
    'a protected path that is encoded twice': { target: '/%2561dmin/users' },
    'a forged client certificate': { lines: ['Client-Cert: :AAAA:'] },
    'a forged Token Binding ID': { lines: ['Sec-Provided-Token-Binding-ID: AAAA'] },
    'more header fields than clients send': {
      lines: Array.from({ length: 201 }, (_, at) => `X-${at}: 1`),
      status: 431,
    },
    'more header bytes than the limit': { lines: [`X-A: ${'a'.repeat(20_000)}`], status: 431 },
    'a body larger than is signed': {
      ...post,
      lines: ['Content-Length: 100000'],
      body: 'x'.repeat(100_000),
      status: 413,
    },
  }

  /** Credentials that are worth nothing here: 401, or the status beside, with a stable code. */
  const unproven: Record<string, Attack & { readonly status?: number }> = {
    'no credentials': { credentials: () => [] },
    'a stolen token without its proof': {
      credentials: (token) => [`Authorization: DPoP ${token}`],
    },
    'a stolen token as a bearer token': {
      credentials: (token) => [`Authorization: Bearer ${token}`],
    },
    'a bearer token': {
      token: { cnf: undefined },
      credentials: (token) => [`Authorization: Bearer ${token}`],
    },
    'a proof by another key': {
      credentials: (token) => [
        `Authorization: DPoP ${token}`,
        `DPoP: ${dpopProof(token, {}, {}, makeKey())}`,
      ],
    },
    'a proof for another method': { proof: { htm: 'POST' } },
    'a proof for another path': { proven: '/other' },
    'a proof for another host': { proof: { htu: 'https://evil.example/x' } },
    'a proof for the address of the application': { proof: { htu: 'http://127.0.0.1/x' } },
    'a proof for another token': { proof: { ath: hash('sha256', 'other', 'base64url') } },
    'a proof that is too old': { proof: { iat: start - 600 } },
    'a proof from the future': { proof: { iat: start + 600 } },
    'two proofs': {
      credentials: (token, proof) => [
        ...[`Authorization: DPoP ${token}`, `DPoP: ${proof}`, `DPoP: ${proof}`],
      ],
      status: 400,
    },
    'two tokens': {
      credentials: (token, proof) => [
        ...[`Authorization: DPoP ${token}`, `Authorization: DPoP ${token}`, `DPoP: ${proof}`],
      ],
      status: 400,
    },
    'a token for another application': { token: { aud: 'https://other.example' } },
    'a token of another issuer': { token: { iss: 'https://evil.example' } },
    'an expired token': { token: { exp: start - 60 } },
    'a token with an unknown confirmation': { token: { cnf: { unknown: 'x' } } },
    'a token bound to a certificate without it': {
      token: { cnf: { 'x5t#S256': hash('sha256', 'x', 'base64url') } },
      credentials: (token) => [`Authorization: Bearer ${token}`],
    },
    'a token without the scope of the route': { target: '/admin', status: 403 },
  }

  /** Passes, and the application sees nothing of what was forged. */
  const stripped: Record<string, { readonly lines: readonly string[]; readonly forged?: string }> =
    {
      'a forged identity': { lines: ['Holdfast-Identity: forged'] },
      'a forged identity in capitals': { lines: ['HOLDFAST-IDENTITY: forged'] },
      'a forged identity with an underscore': { lines: ['holdfast_identity: forged'] },
      'a forged identity with a dot': { lines: ['holdfast.identity: forged'] },
      'a forged plain identity': { lines: ['X-Holdfast-Subject: forged'] },
      'a forged plain identity with underscores': { lines: ['X_Holdfast_Subject: forged'] },
      'an identity header of another proxy': {
        lines: ['Remote-User: forged', 'X-Remote-User: forged'],
      },
      'a header of oauth2-proxy': {
        lines: ['X-Auth-Request-User: forged', 'X-Forwarded-User: forged'],
      },
      'a forged signature': { lines: ['Signature: gate=:forged:', 'Signature-Input: gate=forged'] },
      'a forged digest': { lines: ['Content-Digest: sha-256=:forged:'] },
      'a forged client address': {
        lines: ['X-Forwarded-For: 203.0.113.66'],
        forged: '203.0.113.66',
      },
      'a forged Forwarded': { lines: ['Forwarded: for=forged;host=forged'] },
      'a forged real address': { lines: ['X-Real-IP: forged'] },
      'a forged host behind a proxy': { lines: ['X-Forwarded-Host: forged'] },
      'a forged scheme': { lines: ['X-Forwarded-Proto: forged'] },
      'another URL': { lines: ['X-Original-URL: /forged', 'X-Rewrite-URL: /forged'] },
      'another method': { lines: ['X-HTTP-Method-Override: forged', 'X-Method-Override: forged'] },
      'credentials for a proxy': { lines: ['Proxy-Authorization: Basic forged'] },
      'another upgrade': { lines: ['Upgrade: forged, h2c', 'HTTP2-Settings: forged'] },
      'an attempt to remove what the gate writes': {
        lines: [
          'Connection: holdfast-identity, signature, signature-input, content-digest, forged',
        ],
      },
      'an encoding by another name': { lines: ['Transfer_Encoding: forged'] },
    }

  return { refused, unproven, stripped, smuggled }
}
