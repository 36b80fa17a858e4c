// The listener of this process that asks for certificates, and TLS sessions that are resumed.
import { constants } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type RequestOptions, request } from 'node:https'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import test from 'ava'
import { decodeJwt } from 'jose'
import type { TestCertificate } from '../support/certificates.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { api } from '../support/server.ts'

// Without lists: of the clients of an intermediate there would have to be one of its own.
const mtls = useMtlsServer(test, { HOLDFAST_CLIENT_CRL_FILE: '' })
let clientId: string
let ca: string

test.before(async () => {
  ca = await readFile(mtls.server.authorityFile ?? '', 'utf8')
  const { client_id } = await mtls.server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=resuming',
    binding_method: 'mtls',
  })
  clientId = client_id
})

interface Connection {
  readonly version: 'TLSv1.2' | 'TLSv1.3'
  readonly certificate?: Pick<TestCertificate, 'cert' | 'key'> | undefined
  readonly session?: Buffer | undefined
  /** Sessions that the server would have to remember, by their ID. */
  readonly withoutTickets?: boolean
  readonly origin?: string
}

interface Answer {
  readonly resumed: boolean
  readonly session: Buffer | undefined
  readonly status: number | undefined
  /** What the token is bound to. */
  readonly thumbprint: string | undefined
}

/** Asks for a token on a connection of its own. */
function ask({
  version,
  certificate,
  session,
  withoutTickets = false,
  origin = mtls.mtlsOrigin,
}: Connection): Promise<Answer> {
  const options: RequestOptions & ConnectionOptions = {
    method: 'POST',
    agent: false,
    ca,
    ...certificate,
    session,
    minVersion: version,
    maxVersion: version,
    secureOptions: withoutTickets ? constants.SSL_OP_NO_TICKET : 0,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  }
  return new Promise((resolve, reject) => {
    const sent = request(`${origin}/token`, options, async (response) => {
      const resumed = (response.socket as TLSSocket).isSessionReused()
      const { access_token: token } = JSON.parse((await response.toArray()).join(''))
      const cnf = token && (decodeJwt(token).cnf as { 'x5t#S256'?: string })
      const thumbprint = cnf?.['x5t#S256']
      resolve({ resumed, session: last ?? session, status: response.statusCode, thumbprint })
    })
    let last: Buffer | undefined
    sent.on('socket', (socket) => socket.on('session', (given: Buffer) => (last = given)))
    sent.on('error', reject)
    sent.end(
      new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: clientId,
        scope: 'read',
        resource: api,
      }).toString(),
    )
  })
}

const named = { subject: 'CN=resuming' }

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`${version}: a resumed connection has the certificate of the first`, async (t) => {
    const certificate = await mtls.root.issue(named)
    let { session, thumbprint } = await ask({ version, certificate })
    t.is(thumbprint, certificate.thumbprint)
    for (let round = 1; round <= 3; round += 1) {
      const again = await ask({ version, certificate, session })
      t.true(again.resumed)
      t.is(again.thumbprint, certificate.thumbprint)
      ;({ session } = again)
    }
  })

  test(`${version}: a resumed connection by an intermediate`, async (t) => {
    const intermediate = await mtls.root.intermediate()
    const { cert, key, thumbprint } = await intermediate.issue(named)
    const chained = { cert: `${cert}\n${intermediate.cert}`, key }
    const { session, status } = await ask({ version, certificate: chained })
    t.is(status, 200)
    const again = await ask({ version, certificate: chained, session })
    t.true(again.resumed)
    t.is(again.thumbprint, thumbprint)
  })

  test(`${version}: sessions without tickets`, async (t) => {
    const certificate = await mtls.root.issue(named)
    const { session, thumbprint } = await ask({ version, certificate, withoutTickets: true })
    t.is(thumbprint, certificate.thumbprint)
    const again = await ask({ version, certificate, session, withoutTickets: true })
    t.is(again.thumbprint, certificate.thumbprint)
  })

  test(`${version}: without a certificate, neither connection has one`, async (t) => {
    const { session, status } = await ask({ version })
    t.is(status, 401)
    const again = await ask({ version, session })
    t.true(again.resumed)
    t.is(again.status, 401)
  })

  test(`${version}: who resumes without a certificate cannot bring one later`, async (t) => {
    const { session } = await ask({ version })
    const certificate = await mtls.root.issue(named)
    const again = await ask({ version, certificate, session })
    t.true(again.resumed ? again.status === 401 : again.thumbprint === certificate.thumbprint)
  })

  test(`${version}: a resumed connection is the one that was, whatever it shows`, async (t) => {
    const [mine, other] = [await mtls.root.issue(named), await mtls.root.issue(named)]
    const { session } = await ask({ version, certificate: mine })
    const again = await ask({ version, certificate: other, session })
    t.is(again.thumbprint, again.resumed ? mine.thumbprint : other.thumbprint)
  })

  test(`${version}: many clients at once keep their own`, async (t) => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => mtls.root.issue(named)))
    const rounds = clients.map(async (certificate) => {
      let session: Buffer | undefined
      for (let round = 0; round < 4; round += 1) {
        const answer = await ask({ version, certificate, session })
        t.is(answer.thumbprint, certificate.thumbprint)
        session = answer.session
      }
    })
    await Promise.all(rounds)
  })

  test(`${version}: a session of one port is none at the other`, async (t) => {
    const certificate = await mtls.root.issue(named)
    const { issuer: origin } = mtls.server
    const browser = await ask({ version, certificate, origin })
    t.is(browser.status, 401)
    const there = await ask({ version, certificate, session: browser.session })
    t.false(there.resumed)
    t.is(there.thumbprint, certificate.thumbprint)
    const back = await ask({ version, certificate, session: there.session, origin })
    t.false(back.resumed)
    t.is(back.status, 401)
  })
}
