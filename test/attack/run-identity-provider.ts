/** Runs the table of certificates against identity providers behind a proxy, over HTTP. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  type CertificateHeaderFormat,
  certificateHeaderFormats,
} from '../../packages/verify/client-certificate.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import { newKey } from '../support/flow.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import {
  authority,
  type CertificateRow,
  type ChainAttack,
  certificateTable,
  revoked,
} from './certificate-table.ts'
import type { CertificateResult } from './run-certificates.ts'

const mtlsHost = 'mtls.example'

/** What the row's refusal is at the token endpoint. */
const answers: Readonly<Record<string, string>> = {
  accepted: '200',
  certificate_missing: '401 invalid_client',
  certificate_mismatch: '401 invalid_client',
  untrusted_peer: '400 invalid_request',
  repeated_header: '400 invalid_request',
  malformed_header: '400 invalid_request',
  header_too_large: '431',
  // A certificate outside its validity is none: nobody asks who issued it.
  outside_validity: '401 invalid_client',
}

export async function runIdentityProvider(): Promise<CertificateResult[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-attack-idp-'))
  try {
    const files = { ca: path.join(folder, 'ca.pem'), crl: path.join(folder, 'crl.pem') }
    await writeFile(files.ca, authority.cert)
    await writeFile(files.crl, await authority.crl([revoked]))
    const results: CertificateResult[] = []
    for (const format of certificateHeaderFormats) {
      await using server = await startTestServer({
        HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
        HOLDFAST_CLIENT_CERT_FORMAT: format,
        HOLDFAST_MTLS_ORIGIN: `https://${mtlsHost}`,
        HOLDFAST_CLIENT_CA_FILE: files.ca,
        // Chains come by RFC 9440; intermediates have no lists.
        ...(format !== 'rfc9440' && { HOLDFAST_CLIENT_CRL_FILE: files.crl }),
      })
      results.push(...(await rowsOf(format, server)))
    }
    return results
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function rowsOf(
  format: CertificateHeaderFormat,
  server: TestServer,
): Promise<CertificateResult[]> {
  const results: CertificateResult[] = []
  const result = (title: string, expected: string, got: string) =>
    results.push({ adapter: 'identity provider', case: title, expected, got })
  const { client_id } = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=client',
    binding_method: 'mtls',
  })
  const { client_id: dpopClient } = await server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=client',
  })
  for (const row of certificateTable) {
    if ('attack' in row) {
      const { attack } = row
      // What a token is bound to is a matter of resource servers.
      if (attack.format !== format || 'jkt' in attack.cnf) continue
      const got = await ask(server, client_id, attack.headers, { fromProxy: attack.fromProxy })
      result(row.case, answers[row.expected] ?? row.expected, got)
      if (row.expected !== 'accepted') continue
      const proof = await makeProof(await newKey(), {
        method: 'POST',
        url: `https://${mtlsHost}/token`,
      })
      const withProof = [...attack.headers, 'DPoP', proof]
      const name = (what: string) => `${format}: ${what}`
      result(
        name('a DPoP proof beside the certificate of a client bound by it'),
        '400 invalid_request',
        await ask(server, client_id, withProof),
      )
      result(
        name('the certificate of a DPoP client, without a proof'),
        '400 invalid_grant',
        await ask(server, dpopClient, attack.headers),
      )
      result(
        name('the certificate of a DPoP client, with its proof'),
        '200',
        await ask(server, dpopClient, withProof),
      )
    } else if (format === 'rfc9440' ? row.expected !== 'revoked' : isRevoked(row, format)) {
      const expected =
        row.expected === 'accepted' ? 'accepted' : (answers[row.expected] ?? row.expected)
      result(`${format}: ${row.case}`, expected, await authenticate(server, client_id, row))
    }
  }
  return results
}

const isRevoked = ({ expected }: CertificateRow, format: CertificateHeaderFormat) =>
  expected === 'revoked' && format === 'nginx'

/** Why a certificate authenticates nobody, by the server's log. */
async function authenticate(
  server: TestServer,
  clientId: string,
  { presented: { certificate, chain } }: { presented: ChainAttack },
): Promise<string> {
  const before = server.logged.length
  const bytes = ({ der }: { der: Buffer }) => `:${der.toString('base64')}:`
  const answer = await ask(server, clientId, [
    ...['Client-Cert', bytes(certificate)],
    ...['X-SSL-Cert', encodeURIComponent(certificate.cert)],
    ...(chain.length > 0 ? ['Client-Cert-Chain', chain.map(bytes).join(', ')] : []),
  ])
  if (answer === '200') return 'accepted'
  const [event] = server.logged
    .slice(before)
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event === 'client_certificate.untrusted')
  return event?.reason ?? answer
}

function ask(
  server: TestServer,
  clientId: string,
  headers: readonly string[],
  { fromProxy = true } = {},
): Promise<string> {
  const body = new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId })
  const { port } = new URL(server.issuer)
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        // Every address of 127.0.0.0/8 is this machine's, and the proxy has one of them.
        localAddress: fromProxy ? '127.0.0.1' : '127.0.0.2',
        port,
        path: '/token',
        method: 'POST',
        headers: [
          ...['Host', mtlsHost],
          ...['Content-Type', 'application/x-www-form-urlencoded'],
          ...['Content-Length', String(body.toString().length)],
          ...headers,
        ],
      },
      async (response) => {
        const text = (await response.toArray()).join('')
        const error = text.startsWith('{') ? (JSON.parse(text) as { error?: string }).error : ''
        resolve([response.statusCode, error].filter(Boolean).join(' '))
      },
    )
    sent.on('error', reject)
    sent.end(body.toString())
  })
}
