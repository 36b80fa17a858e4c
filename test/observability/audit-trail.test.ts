import test from 'ava'
import { createAuditTrail } from '../../src/observability/audit-trail.ts'
import type { AuditRow } from '../../src/storage/audit-table.ts'

function trail(append: (rows: readonly AuditRow[]) => Promise<void>, capacity = 10_000) {
  const dropped: number[] = []
  const errors: unknown[] = []
  const audit = createAuditTrail({
    append,
    capacity,
    // Tests flush by themselves.
    interval: 2 ** 30,
    onDropped: (count) => dropped.push(count),
    onError: (error) => errors.push(error),
    now: () => 0,
  })
  return { audit, dropped, errors }
}

const event = (name: string) => ({ event: name, details: {} })

test('writes what was recorded, in its order and with its time', async (t) => {
  const written: AuditRow[] = []
  const { audit } = trail(async (rows) => void written.push(...rows))
  audit.record(event('first'))
  audit.record(event('second'))
  await audit.flush()
  t.deepEqual(written, [
    { ...event('first'), at: new Date(0) },
    { ...event('second'), at: new Date(0) },
  ])
})

test('writes a flood in few statements', async (t) => {
  let statements = 0
  const { audit } = trail(async () => {
    statements += 1
  })
  for (let count = 0; count < 1200; count += 1) audit.record(event('flood'))
  await audit.flush()
  t.is(statements, 3)
})

test('keeps what could not be written, and writes it once', async (t) => {
  const written: string[] = []
  let broken = true
  const { audit } = trail(async (rows) => {
    if (broken) throw new Error('the database is away')
    written.push(...rows.map((row) => row.event))
  })
  audit.record(event('kept'))
  await t.throwsAsync(audit.flush(), { message: 'the database is away' })
  broken = false
  await audit.flush()
  await audit.flush()
  t.deepEqual(written, ['kept'])
})

test('drops what is beyond its capacity, and tells', (t) => {
  const { audit, dropped } = trail(async () => {}, 2)
  for (const name of ['a', 'b', 'c', 'd']) audit.record(event(name))
  t.deepEqual(dropped, [1, 1])
})

test('what is recorded while a batch is written is written as well', async (t) => {
  const written: string[] = []
  const { audit } = trail(async (rows) => {
    if (written.length === 0) audit.record(event('meanwhile'))
    written.push(...rows.map((row) => row.event))
  })
  audit.record(event('first'))
  await audit.flush()
  t.deepEqual(written, ['first', 'meanwhile'])
})

test('closing writes the rest', async (t) => {
  const written: string[] = []
  const { audit } = trail(async (rows) => void written.push(...rows.map((row) => row.event)))
  audit.record(event('last'))
  await audit[Symbol.asyncDispose]()
  t.deepEqual(written, ['last'])
})
