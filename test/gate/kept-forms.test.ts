import { randomBytes } from 'node:crypto'
import test from 'ava'
import { createKeptForms } from '../../packages/gate/browser/kept-forms.ts'
import { createSealer } from '../../packages/gate/browser/sealing.ts'

test('sends a kept form at its own application alone, and not too late', (t) => {
  const sealer = createSealer([randomBytes(32)])
  let nowMs = 0
  const formsOf = (origin: string) => createKeptForms({ origin, sealer, now: () => nowMs })
  const forms = formsOf('https://app.example')
  const { fields } = forms.keep({ target: '/notes', body: 'text=a%3Cb' }, new Map())
  const cookie = fields[fields.indexOf('Set-Cookie') + 1] ?? ''
  const [, name = '', value = ''] = /^([^=]+)=([^;]+)/.exec(cookie) ?? []
  const cookies = new Map([[name, value]])
  t.regex(forms.send('0', cookies).body ?? '', /<textarea hidden name="text">\na&lt;b</)
  t.is(formsOf('https://other.example').send('0', cookies).status, 303)
  t.is(forms.send('1', cookies).status, 303)
  nowMs = 600_000
  t.is(forms.send('0', cookies).status, 303)
})
