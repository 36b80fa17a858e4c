import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { decideVectors, VectorsError } from './support/token-binding-vectors.ts'

const path = new URL('vectors/binding-vectors.json', import.meta.url)
const script = new URL('vectors.ts', import.meta.url).pathname
const file = JSON.parse(readFileSync(path, 'utf8'))
const good = file.token_binding.find(({ id }: { id: string }) => id === 'gen-ec-provided')
const withReferred = file.token_binding.find(
  ({ id }: { id: string }) => id === 'gen-ec-provided-ec-referred',
)

const decideOne = (overrides: object, entry = good) => {
  const { rows, failed } = decideVectors({ token_binding: [{ ...entry, ...overrides }] })
  return { ...rows[0], failed: failed.size }
}

test('decides every vector as the file expects', (t) => {
  const { rows, related, failed } = decideVectors(file)
  t.deepEqual([...failed], [])
  t.is(rows.length, file.token_binding.length)
  t.is(related.length, file.tbh.length + file.pkce_token_binding.length + file.id_tokens.length)
})

test('fails a row whose decision is not the expected one', (t) => {
  t.like(decideOne({ valid: false }), { expected: false, got: true, failed: 1 })
  t.like(decideOne({ ekm_hex: '00'.repeat(32) }), { expected: true, got: false, failed: 1 })
})

test('fails an accepted row with another ID or hash than expected', (t) => {
  for (const name of ['expected_provided_id', 'expected_provided_tbh']) {
    t.like(decideOne({ [name]: 'AAAA' }), {
      got: true,
      failed: 1,
      reason: `another ID than ${name}`,
    })
  }
  t.is(decideOne({ expected_referred_id: 'AAAA' }).failed, 1)
  t.is(decideOne({ expected_referred_id: null }, withReferred).failed, 1)
})

test('does not miss IDs that the file does not give', (t) => {
  t.is(decideOne({ expected_provided_id: undefined, expected_referred_tbh: undefined }).failed, 0)
})

test('understands key parameters by name', (t) => {
  t.is(decideOne({ negotiated_key_parameters: 'ecdsap256' }).failed, 0)
})

test('takes the EKM in base64url where that is all there is', (t) => {
  const ekm = Buffer.from(good.ekm_hex, 'hex').toString('base64url')
  t.is(decideOne({ ekm_hex: undefined, ekm_b64u: ekm }).failed, 0)
})

test('accepts nothing on a connection that it could not be on', (t) => {
  t.like(decideOne({ negotiated_key_parameters: 9, valid: false }), { got: false, failed: 0 })
  t.like(decideOne({ ekm_hex: good.ekm_hex.slice(2), valid: false }), { got: false, failed: 0 })
})

test('takes an absent negotiation for none', (t) => {
  t.like(decideOne({ negotiated_key_parameters: undefined }), { got: false, failed: 1 })
})

test('cannot decide a well-formed message without its EKM, but refuses a malformed one', (t) => {
  t.like(decideOne({ ekm_hex: null, valid: null }), { got: null, failed: 0 })
  t.like(decideOne({ ekm_hex: null }), { got: null, failed: 1 })
  t.like(decideOne({ ekm_hex: null, message_b64u: 'AA', valid: false }), { got: false, failed: 0 })
})

test('fails, with the reason, each entry that it cannot understand', (t) => {
  const entries = [
    [{ valid: 'yes' }, /"valid"/],
    [{ message_b64u: undefined }, /"message_b64u"/],
    [{ ekm_hex: 'zz' }, /"ekm_hex"/],
    [{ negotiated_key_parameters: {} }, /"negotiated_key_parameters"/],
    [{ negotiated_key_parameters: 'P-521' }, /"negotiated_key_parameters"/],
  ] as const
  for (const [overrides, reason] of entries) {
    const row = decideOne(overrides)
    t.is(row.failed, 1)
    t.is(row.got, null)
    t.regex(row.reason ?? '', reason)
  }
  t.is(decideVectors({ token_binding: [null, 'x'] }).failed.size, 2)
})

test('names an entry without an id by its place', (t) => {
  t.is(decideOne({ id: undefined }).id, 'token_binding[0]')
})

test('fails references to messages that were refused', (t) => {
  const pkce = { ...file.pkce_token_binding[0], token_request_vector: 'nowhere' }
  t.is(decideVectors({ token_binding: [], pkce_token_binding: [pkce] }).failed.size, 1)
})

test('fails a verifier, a challenge and a tbh that are another', (t) => {
  const broken = {
    ...file,
    tbh: [{ ...file.tbh[0], tbh: 'AAAA' }],
    pkce_token_binding: [
      { ...file.pkce_token_binding[0], code_verifier: 'referred_tb' },
      { ...file.pkce_token_binding[1], code_verifier: 'referred_tb' },
      { ...file.pkce_token_binding[2], code_verifier: 'A' },
    ],
    id_tokens: [{ ...file.id_tokens[0], provided_at_rp: 'gen-ec-provided' }],
  }
  t.is(decideVectors(broken).failed.size, 5)
})

test('refuses a file of something else', (t) => {
  for (const other of [null, [], {}, { token_binding: {} }]) {
    t.throws(() => decideVectors(other), { instanceOf: VectorsError })
  }
})

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr })
    })
  })
}

test('prints JSON for programs and a table for people', async (t) => {
  const json = await run(path.pathname, '--json')
  t.is(json.code, 0)
  const report = JSON.parse(json.stdout)
  t.is(report.failed, 0)
  t.deepEqual(Object.keys(report.rows[0]), ['id', 'expected', 'got', 'reason'])

  const table = await run(path.pathname)
  t.is(table.code, 0)
  t.regex(table.stdout, /gen-ec-provided .*accept/)
})

test('exits with 1 for a failed row and 2 without rows to decide', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vectors-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const write = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const failing = JSON.stringify({ token_binding: [{ ...good, valid: false }] })
  t.is((await run(await write('failing.json', failing))).code, 1)

  const cases: [args: string[], sentence: RegExp][] = [
    [[], /Usage/],
    [['a.json', 'b.json'], /Usage/],
    [['--what'], /--what/],
    [[join(folder, 'absent.json')], /Cannot read/],
    [[folder], /Cannot read/],
    [[await write('text.json', 'not json')], /is not JSON/],
    [[await write('other.json', '[]')], /token_binding/],
  ]
  for (const [args, sentence] of cases) {
    const { code, stdout, stderr } = await run(...args)
    t.is(code, 2)
    t.is(stdout, '')
    t.regex(stderr, sentence)
    t.notRegex(stderr, /at .*\.ts/)
  }
})
