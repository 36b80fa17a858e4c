import { readFile } from 'node:fs/promises'
import test from 'ava'
import type { GateEvent } from '../../packages/gate/events.ts'
import { createLines } from '../../packages/gate/lines.ts'
import { createMetrics } from '../../packages/gate/metrics.ts'

function linesOf(nowMs = () => 0) {
  const lines: Record<string, unknown>[] = []
  const report = createLines((text) => lines.push(JSON.parse(text)), nowMs)
  return { lines, report }
}

const refused: GateEvent = {
  ...{ type: 'gate_refused', code: 'groups', address: '192.0.2.1' },
  cause: new Error('why'),
  requestId: 'r',
}

test('writes what an event is about by the same names, and errors by their message', (t) => {
  const { lines, report } = linesOf()
  const facts = { requestId: 'r', sub: 'alice', session: 'hash', jkt: 'key' }
  const code = 'groups'
  report({
    type: 'policy_refused',
    application: 'https://a.example',
    route: '/admin',
    ...facts,
    code,
  })
  report(refused)
  const time = '1970-01-01T00:00:00.000Z'
  t.deepEqual(lines, [
    {
      ...{ time, type: 'policy_refused', application: 'https://a.example', route: '/admin' },
      ...facts,
      reason: 'groups',
    },
    {
      ...{ time, type: 'gate_refused', requestId: 'r', reason: 'groups' },
      address: '192.0.2.1',
      cause: 'why',
    },
  ])
})

test('writes no line of a request that passes', (t) => {
  const { lines, report } = linesOf()
  report({ type: 'forwarded', application: 'https://a.example', mode: 'sign', status: 200 })
  t.deepEqual(lines, [])
})

test('writes 600 lines of a kind in a minute, and how many it left out', (t) => {
  let nowMs = 0
  const { lines, report } = linesOf(() => nowMs)
  for (let count = 0; count < 700; count += 1) report(refused)
  t.is(lines.length, 600)
  // What strangers cause takes no room from what people do.
  report({ type: 'signed_in', application: 'https://a.example', renewed: false })
  t.is(lines.length, 601)
  nowMs = 60_000
  report(refused)
  t.like(lines.at(-2), { type: 'lines_left_out', of: 'gate_refused', count: 100 })
  t.like(lines.at(-1), { type: 'gate_refused' })
})

test('docs/gate.md names every event and every metric, and no other', async (t) => {
  const docs = await readFile('docs/gate.md', 'utf8')
  const [, section = ''] = /\n## Watch it\n(.*?)\n## /s.exec(docs) ?? []
  const rows = section.split('\n').flatMap((line) => /^\| (`.*?) \|/.exec(line)?.[1] ?? [])
  const named = rows.flatMap((row) => [...row.matchAll(/`([a-z_]+)[`{]/g)].map(([, name]) => name))
  const sources = await Promise.all(
    ['packages/gate/events.ts', 'packages/verify/events.ts'].map((file) => readFile(file, 'utf8')),
  )
  const types = [...sources.join().matchAll(/type: '(\w+)'/g)].map(([, type]) => type)
  const lines = types.filter((type) => type !== 'accepted' && type !== 'forwarded')
  const metrics = [...(await createMetrics().render()).matchAll(/^# TYPE (\w+)/gm)]
  const counted = metrics.map(([, name]) => name)
  t.deepEqual(named.toSorted(), [...lines, ...counted].toSorted())
})
