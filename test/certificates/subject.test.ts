import test from 'ava'
import {
  isSubjectValue,
  type SubjectProperty,
  subjectMatches,
} from '../../src/certificates/subject.ts'
import { createAuthority, type TestCertificate } from '../support/certificates.ts'

let client: TestCertificate

test.before(async () => {
  const authority = await createAuthority()
  client = await authority.issue({
    subject: 'C=SE, O=Example, CN=app',
    names: [
      { type: 'dns', value: 'App.example.com' },
      { type: 'dns', value: '*.wild.example.com' },
      { type: 'url', value: 'spiffe://example.com/app' },
      { type: 'ip', value: '192.0.2.7' },
      { type: 'ip', value: '2001:db8::7' },
      { type: 'email', value: 'App@Example.com' },
    ],
  })
})

const yes: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'CN=app,O=Example,C=SE'],
  ['tls_client_auth_san_dns', 'app.EXAMPLE.com'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/app'],
  ['tls_client_auth_san_ip', '192.0.2.7'],
  ['tls_client_auth_san_ip', '2001:0DB8:0:0::7'],
  ['tls_client_auth_san_email', 'App@EXAMPLE.com'],
]

for (const [property, value] of yes) {
  test(`${property} ${value} is this certificate`, (t) => {
    t.true(isSubjectValue(property, value))
    t.true(subjectMatches(client.certificate, property, value))
  })
}

const no: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'CN=app,O=Example'],
  ['tls_client_auth_subject_dn', 'C=SE,O=Example,CN=app'],
  ['tls_client_auth_san_dns', 'example.com'],
  ['tls_client_auth_san_dns', 'any.wild.example.com'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/App'],
  ['tls_client_auth_san_uri', 'spiffe://example.com/app/'],
  ['tls_client_auth_san_ip', '192.0.2.70'],
  ['tls_client_auth_san_ip', '::ffff:192.0.2.7'],
  ['tls_client_auth_san_ip', '2001:db8::8'],
  ['tls_client_auth_san_email', 'app@example.com'],
  ['tls_client_auth_san_email', 'Other@example.com'],
]

for (const [property, value] of no) {
  test(`${property} ${value} is another certificate`, (t) => {
    t.true(isSubjectValue(property, value))
    t.false(subjectMatches(client.certificate, property, value))
  })
}

test('the value of one kind does not match a name of another', (t) => {
  t.false(subjectMatches(client.certificate, 'tls_client_auth_san_uri', 'App.example.com'))
  t.false(subjectMatches(client.certificate, 'tls_client_auth_san_dns', 'spiffe://example.com/app'))
})

const never: [SubjectProperty, string][] = [
  ['tls_client_auth_subject_dn', 'app'],
  ['tls_client_auth_san_dns', 'https://app.example.com'],
  ['tls_client_auth_san_uri', 'app'],
  ['tls_client_auth_san_ip', '192.0.2.0/24'],
  ['tls_client_auth_san_email', 'example.com'],
]

for (const [property, value] of never) {
  test(`${property} ${value} cannot be registered and matches nothing`, (t) => {
    t.false(isSubjectValue(property, value))
    t.false(subjectMatches(client.certificate, property, value))
  })
}
