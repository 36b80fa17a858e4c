import { Readable } from 'node:stream'
import test from 'ava'
import { type FormRequest, readForm } from '../../src/http/form-body.ts'

function request(body: string | Buffer, type = 'application/x-www-form-urlencoded'): FormRequest {
  return {
    req: Readable.from([Buffer.from(body)]) as FormRequest['req'],
    is: (expected) => (expected === type ? expected : false),
  }
}

test('reads fields, decoded', async (t) => {
  const form = await readForm(request('email=ada%40example.com&password=a+b%2Bc&empty='))
  t.deepEqual(
    [...form],
    [
      ['email', 'ada@example.com'],
      ['password', 'a b+c'],
      ['empty', ''],
    ],
  )
})

test('a field is data whatever its name', async (t) => {
  const form = await readForm(request('__proto__=x&constructor[prototype]=y'))
  t.is(form.get('__proto__'), 'x')
  t.is(form.get('email'), undefined)
})

test('accepts 16 kB', async (t) => {
  t.is((await readForm(request(`a=${'x'.repeat(16 * 1024 - 2)}`))).size, 1)
})

test('rejects one byte more', async (t) => {
  const read = readForm(request(`a=${'x'.repeat(16 * 1024 - 1)}`))
  t.like(await t.throwsAsync(read), { code: 'form_too_large', status: 413 })
})

test('rejects a repeated field', async (t) => {
  const read = readForm(request('email=ada@example.com&email=eve@example.com'))
  t.like(await t.throwsAsync(read), { code: 'invalid_form', status: 400 })
})

for (const type of ['application/json', 'multipart/form-data', 'text/plain', '']) {
  test(`rejects ${type || 'a body without a type'}`, async (t) => {
    t.like(await t.throwsAsync(readForm(request('{}', type))), { code: 'invalid_form' })
  })
}

test('rejects a body that breaks off', async (t) => {
  const req = new Readable({
    read() {
      this.destroy(new Error('aborted'))
    },
  }) as FormRequest['req']
  const read = readForm({ ...request(''), req })
  t.like(await t.throwsAsync(read), { code: 'invalid_form' })
})
