import path from 'node:path'
import test from 'ava'
import { createAuthority, daysFromNow, type TestCertificate } from '../support/certificates.ts'
import { post } from '../support/flow.ts'
import { useMtlsServer } from '../support/mtls.ts'
import { replaceFile } from '../support/replace-file.ts'
import { until } from '../support/until.ts'

const mtls = useMtlsServer(test)

async function newClient() {
  const { client_id } = await mtls.server.addClient({
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=rotating',
    binding_method: 'mtls',
  })
  return (fetch: typeof globalThis.fetch) =>
    post(
      mtls.server,
      '/token',
      { grant_type: 'client_credentials', client_id },
      { origin: mtls.mtlsOrigin, fetch },
    )
}

const events = (name: string) =>
  mtls.server.logged.filter((line) => line.includes(`"event":"${name}"`)).length

test('lists and authorities change while connections are open', async (t) => {
  const { server, root, folder, fetchWith } = mtls
  const replace = async (name: 'ca' | 'crl', text: string) =>
    replaceFile(path.join(folder, `${name}.pem`), text)
  const ask = await newClient()
  const issue = async (authority = root) => {
    const certificate = await authority.issue({ subject: 'CN=rotating' })
    return { certificate, fetch: fetchWith(certificate) }
  }
  const client = await issue()
  t.is((await ask(client.fetch)).status, 200)

  // Its certificate is revoked: the connection that it has is of no use any more.
  await replace('crl', await root.crl([client.certificate]))
  await until(async () => (await ask(client.fetch)).status === 401)
  const next = await issue()
  t.is((await ask(next.fetch)).status, 200)
  t.is(events('client_authorities.changed'), 1)

  // A list that is not one: what was revoked stays so, and all others go on.
  await replace('crl', 'not a list')
  await until(async () => events('client_authorities.unusable') === 1)
  t.is((await ask(client.fetch)).status, 401)
  t.is((await ask(next.fetch)).status, 200)

  // A second authority comes beside the first.
  const second = await createAuthority('CN=Second')
  const ofSecond = await issue(second)
  t.is((await ask(ofSecond.fetch)).status, 401)
  const lists = async (...revoked: TestCertificate[]) =>
    `${await root.crl(revoked)}\n${await second.crl()}`
  await replace('ca', `${root.cert}\n${second.cert}`)
  await replace('crl', await lists(client.certificate))
  await until(async () => (await ask(ofSecond.fetch)).status === 200)
  t.is((await ask(next.fetch)).status, 200)

  // A list that has ended says nothing about anybody.
  await replace(
    'crl',
    `${await root.crl([], { nextUpdate: daysFromNow(-0.5) })}\n${await second.crl()}`,
  )
  await until(async () => (await ask(next.fetch)).status === 401)
  t.is((await ask(ofSecond.fetch)).status, 200)
  t.is(events('client_crl.expired'), 1)

  await server.flushAudit()
  const kinds = (await server.storage.audit.list({ limit: 1000 })).map(({ event }) => event)
  for (const kind of [
    'client_authorities.changed',
    'client_authorities.unusable',
    'client_crl.expired',
  ]) {
    t.true(kinds.includes(kind), kind)
  }
  // What strangers cause is counted, and no row of the audit trail.
  const counted = await server.storage.countedEvents.list({ limit: 1000 })
  t.true(counted.some(({ event }) => event === 'client_certificate.untrusted'))
  const metrics = await (await fetch(`http://${server.operators}/metrics`)).text()
  t.regex(metrics, /holdfast_client_authority_reloads_total\{outcome="used"\} [2-9]/)
  t.regex(metrics, /holdfast_client_authority_reloads_total\{outcome="refused"\} [1-9]/)
  t.regex(metrics, /holdfast_client_crl_next_update_timestamp_seconds 1\d{9}/)
})
