import test from 'ava'
import { createLog } from '../../src/observability/log.ts'
import { redactedNames } from '../../src/observability/redact.ts'

const secret = 'the-credential-of-somebody'
const jwt = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'

function logged(record: object): string {
  const lines: string[] = []
  createLog('info', { write: (line) => lines.push(line) }).info(record, 'said')
  return lines.join('')
}

for (const name of redactedNames) {
  test(`${name} is left out, at any depth and in any case`, (t) => {
    const line = logged({
      [name]: secret,
      request: undefined,
      headers: { [name.toUpperCase()]: secret },
      deep: { list: [{ [name]: { inner: secret } }] },
    })
    t.false(line.includes(secret))
  })
}

test('a JWT is left out wherever it stands', (t) => {
  t.false(logged({ note: `got ${jwt} from it`, list: [jwt] }).includes('eyJ'))
})

for (const [what, unit] of [
  ['beginnings of JWTs', '-eyJ'],
  ['beginnings of JWTs with dots', 'eyJ.'],
  ['schemes', 'a://'],
  ['letters of a scheme', 'a+.-'],
] as const) {
  test(`keeps the beginning of a long text of ${what}, and its length`, (t) => {
    const { note } = JSON.parse(logged({ note: unit.repeat(100_000) }))
    t.true(note.startsWith(unit))
    t.true(note.endsWith('… (400000)'))
    t.true(note.length < 9_000)
  })
}

test('leaves out a JWT behind a dash, a dot or an equals sign', (t) => {
  for (const before of ['x-', 'x.', 'x=', ''])
    t.false(logged({ note: before + jwt }).includes('eyJ'))
})

test('an error loses its credentials and keeps its code and cause', (t) => {
  const cause = new Error(`cannot reach postgresql://user:${secret}@db.example/holdfast`)
  const err = Object.assign(new Error(`bad token ${jwt}`, { cause }), { code: 'ECONNREFUSED' })
  const line = logged({ err })
  t.false(line.includes(secret))
  t.false(line.includes('eyJ'))
  t.like(JSON.parse(line).err, { type: 'Error', code: 'ECONNREFUSED' })
  t.regex(JSON.parse(line).err.cause.message, /db\.example/)
})

test('a record that holds itself does not hang the log', (t) => {
  const record: Record<string, unknown> = { name: 'loop' }
  record.self = record
  t.true(logged(record).includes('loop'))
})

test('everything else stays', (t) => {
  t.like(JSON.parse(logged({ event: 'x', count: 3, at: new Date(0), none: null })), {
    event: 'x',
    count: 3,
    at: '1970-01-01T00:00:00.000Z',
    none: null,
    msg: 'said',
  })
})
