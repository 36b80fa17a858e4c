import test from 'ava'
import { createShortMemory } from '../../src/storage/short-memory.ts'

function createWorld() {
  const table = new Map([['a', 'first']])
  const asked: string[] = []
  const clock = { now: 0 }
  const memory = createShortMemory(
    async (key) => {
      asked.push(key)
      return table.get(key)
    },
    { now: () => clock.now },
  )
  return { table, asked, clock, memory }
}

test('what was found is found again without asking, for three seconds', async (t) => {
  const { asked, clock, memory, table } = createWorld()
  t.is(await memory.find('a'), 'first')
  table.set('a', 'second')
  clock.now = 1999
  t.is(await memory.find('a'), 'first')
  t.deepEqual(asked, ['a'])
  clock.now = 5000
  t.is(await memory.find('a'), 'second')
})

test('reads anew from two seconds on, and answers with what it has', async (t) => {
  const { asked, clock, memory, table } = createWorld()
  await memory.find('a')
  table.set('a', 'second')
  clock.now = 2999
  t.is(await memory.find('a'), 'first')
  t.deepEqual(asked, ['a', 'a'])
  await Promise.resolve()
  t.is(await memory.find('a'), 'second')
})

test('asks once for all who ask at the same moment', async (t) => {
  const { asked, clock, memory } = createWorld()
  t.deepEqual(await Promise.all([memory.find('a'), memory.find('a')]), ['first', 'first'])
  clock.now = 3000
  await Promise.all([memory.find('a'), memory.find('a')])
  t.deepEqual(asked, ['a', 'a'])
})

test('reports a failure to those who wait, and asks again', async (t) => {
  const answers = [Promise.resolve('first'), Promise.reject(new Error('gone')), undefined]
  const clock = { now: 0 }
  const memory = createShortMemory(async () => answers.shift(), { now: () => clock.now })
  await memory.find('a')
  clock.now = 2500
  t.is(await memory.find('a'), 'first')
  clock.now = 3000
  await t.throwsAsync(memory.find('a'), { message: 'gone' })
  t.is(await memory.find('a'), undefined)
})

test('gives nobody what was asked before a change', async (t) => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const answers = [promise, Promise.resolve('second')]
  const memory = createShortMemory(async () => answers.shift())
  const before = memory.find('a')
  memory.forget('a')
  t.is(await memory.find('a'), 'second')
  resolve('first')
  t.is(await before, 'first')
})

test('what was removed elsewhere is gone after three seconds', async (t) => {
  const { clock, memory, table } = createWorld()
  await memory.find('a')
  table.delete('a')
  clock.now = 3000
  t.is(await memory.find('a'), undefined)
})

test('what was not found is asked for again', async (t) => {
  const { memory, table } = createWorld()
  t.is(await memory.find('b'), undefined)
  table.set('b', 'new')
  t.is(await memory.find('b'), 'new')
})

test('what this process changes is forgotten at once', async (t) => {
  const { memory, table } = createWorld()
  await memory.find('a')
  table.delete('a')
  memory.forget('a')
  t.is(await memory.find('a'), undefined)
})

test('what is changed while it is read is not remembered as it was', async (t) => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const answers = [promise, Promise.resolve('second')]
  const memory = createShortMemory(async () => answers.shift())
  const reading = memory.find('a')
  memory.forget('a')
  resolve('first')
  t.is(await reading, 'first')
  t.is(await memory.find('a'), 'second')
})

test('more than a thousand entries are forgotten, and found again', async (t) => {
  const { asked, memory, table } = createWorld()
  for (let index = 0; index < 1000; index += 1) table.set(`${index}`, 'x')
  await memory.find('a')
  for (let index = 0; index < 1000; index += 1) await memory.find(`${index}`)
  asked.length = 0
  await memory.find('a')
  t.deepEqual(asked, ['a'])
  await memory.find('999')
  t.deepEqual(asked, ['a'])
})
