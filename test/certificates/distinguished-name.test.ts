import test from 'ava'
import {
  asDistinguishedName,
  parseDistinguishedName,
  sameName,
} from '../../src/certificates/distinguished-name.ts'

/** CN=Ada App,OU=Payments,O=Example\, Inc.,C=SE as a certificate holds it. */
const name = asDistinguishedName([
  { C: ['SE'] },
  { O: ['Example, Inc.'] },
  { OU: ['Payments'] },
  { CN: ['Ada App'] },
])

for (const text of [
  'CN=Ada App,OU=Payments,O=Example\\, Inc.,C=SE',
  'cn=ada app, ou=PAYMENTS , o=Example\\, Inc., c=se',
  'CN=Ada  App,OU=Payments,O=Example\\2C Inc.,C=SE',
  '2.5.4.3=Ada App,2.5.4.11=Payments,2.5.4.10=Example\\, Inc.,2.5.4.6=SE',
]) {
  test(`is the name in the certificate: ${text}`, (t) => {
    t.true(sameName(parseDistinguishedName(text) ?? [], name))
  })
}

for (const [title, text] of [
  ['the order of the certificate', 'C=SE,O=Example\\, Inc.,OU=Payments,CN=Ada App'],
  ['a part too few', 'CN=Ada App,OU=Payments,O=Example\\, Inc.'],
  ['a part too many', 'CN=Ada App,OU=Payments,OU=x,O=Example\\, Inc.,C=SE'],
  ['another value', 'CN=Ada Apps,OU=Payments,O=Example\\, Inc.,C=SE'],
  ['another type', 'UID=Ada App,OU=Payments,O=Example\\, Inc.,C=SE'],
  ['one set instead of two names', 'CN=Ada App+OU=Payments,O=Example\\, Inc.,C=SE'],
] as const) {
  test(`is another name: ${title}`, (t) => {
    const parsed = parseDistinguishedName(text)
    t.truthy(parsed)
    t.false(sameName(parsed ?? [], name))
  })
}

for (const [what, text] of [
  ['spaces before a bad character', `CN=${' '.repeat(1_000_000)}"`],
  ['spaces inside a value', `CN=a${' '.repeat(1_000_000)}b`],
  ['spaces before the type', `${' '.repeat(1_000_000)}`],
] as const) {
  test(`reads ${what} in linear time`, (t) => {
    const name = parseDistinguishedName(text)
    t.deepEqual(name?.[0]?.[0]?.value, what === 'spaces inside a value' ? 'a b' : undefined)
  })
}

test('the members of a set have no order', (t) => {
  const set = asDistinguishedName([{ CN: ['a'], OU: ['b'] }])
  t.true(sameName(parseDistinguishedName('OU=b+CN=a') ?? [], set))
})

test('values are UTF-8, escaped or not, composed or not', (t) => {
  const lucic = asDistinguishedName([{ CN: ['Lučić'] }])
  for (const text of ['CN=Lučić', 'CN=Lu\\C4\\8Di\\C4\\87', 'CN=Luc\u030cic\u0301']) {
    t.true(sameName(parseDistinguishedName(text) ?? [], lucic), text)
  }
})

test('an escaped space belongs to the value, and means as much as any other', (t) => {
  t.true(
    sameName(
      parseDistinguishedName('CN=a\\ ') ?? [],
      parseDistinguishedName('CN=a') ?? ['x' as never],
    ),
  )
})

for (const text of [
  '',
  'garbage',
  'CN=',
  'CN=a,',
  'CN=a,,O=b',
  'CN=a+',
  'CN="quoted"',
  'CN=#0C0161',
  'CN=\\C4',
  'CN=a\\',
  'CN=a;O=b',
  'UNKNOWN=a',
]) {
  test(`is no name that can be registered: "${text}"`, (t) => {
    t.is(parseDistinguishedName(text), undefined)
  })
}
