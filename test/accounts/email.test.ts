import test from 'ava'
import { normalizeEmail } from '../../src/accounts/email.ts'

test('gives one spelling to one mailbox', (t) => {
  for (const typed of ['ada@example.com', ' Ada@Example.COM ', 'ADA@EXAMPLE.COM\n']) {
    t.is<string, string>(normalizeEmail(typed), 'ada@example.com')
  }
})

test('writes an international domain in ASCII', (t) => {
  t.is<string, string>(normalizeEmail('ada@Bücher.example'), 'ada@xn--bcher-kva.example')
})

test('composes decomposed letters', (t) => {
  t.is(normalizeEmail('zoe\u0308@example.com'), normalizeEmail('zo\u00eb@example.com'))
})

test('gives what it has made the same form again', (t) => {
  for (const typed of [
    '\u03ab\u0301@example.com',
    'ada@B\u00fccher.example',
    '\u212b@example.com',
  ]) {
    const once = normalizeEmail(typed)
    t.is(normalizeEmail(once), once)
    t.is(once.normalize('NFC'), once)
  }
})

for (const [title, email] of [
  ['no at sign', 'ada.example.com'],
  ['nothing before the at sign', '@example.com'],
  ['nothing after the at sign', 'ada@'],
  ['two at signs', 'ada@evil@example.com'],
  ['a space inside', 'ada lovelace@example.com'],
  ['a control character', 'ada\u0000@example.com'],
  ['angle brackets', '<ada@example.com'],
  ['a domain that is none', 'ada@exa mple.com'],
  ['a path behind its domain', 'ada@example.com/1'],
  ['a query behind its domain', 'ada@example.com?1'],
  ['a fragment behind its domain', 'ada@example.com#1'],
  ['a backslash in its domain', 'ada@example.com\\1'],
  ['an escape in its domain', 'ada@ex%61mple.com'],
  ['a tab in its domain', 'ada@exam\tple.com'],
  ['more than 254 bytes', `${'a'.repeat(250)}@example.com`],
] as const) {
  test(`rejects an email with ${title}`, (t) => {
    t.like(
      t.throws(() => normalizeEmail(email)),
      { name: 'AccountError', code: 'invalid_email' },
    )
  })
}
