import type { IncomingMessage } from 'node:http'
import test from 'ava'
import { createEdge } from '../../src/http/edge.ts'
import { selfSigned, type TestCertificate } from '../support/certificates.ts'

const edge = createEdge({
  issuer: 'https://id.example',
  trustedProxies: ['10.0.0.0/8'],
  tokenBinding: 'off',
  mtls: {
    port: undefined,
    origin: 'https://mtls.id.example',
    forwarded: { format: 'nginx', header: undefined },
  },
})

let client: TestCertificate
let proxy: TestCertificate

test.before(async () => {
  client = await selfSigned()
  proxy = await selfSigned()
})

/** A request from an address, by a connection that has shown a certificate. */
function from(
  remoteAddress: string,
  { shown, headers = {} }: { shown?: TestCertificate; headers?: Record<string, string> } = {},
): IncomingMessage {
  const socket = { remoteAddress, getPeerX509Certificate: () => shown?.certificate }
  return { socket, headers, rawHeaders: Object.entries(headers).flat() } as never
}

const header = () => ({ 'x-ssl-cert': encodeURIComponent(client.cert) })

test('the certificate of a client that connects itself is that of its connection', (t) => {
  const { certificate, fromProxy } = edge.inspect(from('192.0.2.1', { shown: client }))
  t.is(certificate?.thumbprint, client.thumbprint)
  t.false(fromProxy)
})

test('the certificate behind a proxy is that in the header', (t) => {
  const { certificate, fromProxy } = edge.inspect(
    from('10.1.2.3', { shown: proxy, headers: header() }),
  )
  t.is(certificate?.thumbprint, client.thumbprint)
  t.true(fromProxy)
})

test("a proxy's own certificate is nobody's", (t) => {
  t.is(edge.inspect(from('10.1.2.3', { shown: proxy })).certificate, undefined)
})

test('a header from anyone else is refused, with a certificate beside it or without', (t) => {
  for (const shown of [client, undefined]) {
    const request = from('192.0.2.1', { ...(shown && { shown }), headers: header() })
    t.is(edge.inspect(request).refused?.code, 'untrusted_peer')
  }
})

test('without a format no header is believed, whoever sends it', (t) => {
  const plain = createEdge({
    issuer: 'https://id.example',
    trustedProxies: ['10.0.0.0/8'],
    tokenBinding: 'off',
    mtls: { port: undefined, origin: undefined, forwarded: undefined },
  })
  const headers = { 'client-cert': `:${client.der.toString('base64')}:` }
  t.is(plain.inspect(from('10.1.2.3', { headers })).refused?.code, 'untrusted_peer')
})

test('of two configured origins the proxy says which one it was', (t) => {
  const at = (address: string, host: string) =>
    edge.originOf(from(address, { headers: { host } })).origin
  t.is(at('10.1.2.3', 'mtls.id.example'), 'https://mtls.id.example')
  t.is(at('10.1.2.3', 'id.example'), 'https://id.example')
  t.is(at('10.1.2.3', 'evil.example'), 'https://id.example')
  t.is(at('192.0.2.1', 'mtls.id.example'), 'https://id.example')
})
