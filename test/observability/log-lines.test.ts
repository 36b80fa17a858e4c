import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import test from 'ava'

const source = new URL('../../src/observability/log-lines.ts', import.meta.url).href

type Writing = ChildProcessByStdio<Writable, Readable, Readable>

/**
 * A process that writes lines to standard error in many turns, says how many it has dropped, and
 * ends when its standard input does.
 */
function writing(lines: number, stderr: 'pipe' | number = 'pipe') {
  const program = `
    import { setImmediate } from 'node:timers/promises'
    const { droppedLines, linesTo } = await import(${JSON.stringify(source)})
    // By this the pipe becomes one that does not block.
    process.stderr.isTTY
    const log = linesTo(2)
    for (let line = 0; line < ${lines}; line += 1) {
      log.write(JSON.stringify({ line, text: 'x'.repeat(1000) }) + '\\n')
      await setImmediate()
    }
    console.log(droppedLines())
    process.stdin.resume()`
  const options = ['--no-warnings', '--input-type=module', '--eval', program]
  return spawn(process.execPath, options, { stdio: ['pipe', 'pipe', stderr] }) as Writing
}

const numberFrom = async (stream: Readable) => Number(String((await once(stream, 'data'))[0]))

/** The numbers of so many lines. */
async function read(stream: Readable, lines: number): Promise<number[]> {
  const numbers: number[] = []
  for await (const line of createInterface({ input: stream })) {
    numbers.push(JSON.parse(line).line)
    if (numbers.length === lines) break
  }
  return numbers
}

test('a reader who has gone stops nobody', async (t) => {
  const child = writing(5000)
  child.stderr.destroy()
  const ended = once(child, 'exit')
  t.true((await numberFrom(child.stdout)) > 1000)
  child.stdin.end()
  t.deepEqual(await ended, [0, null])
})

test('a reader who stops stops nobody, and is given whole lines when it goes on', async (t) => {
  const child = writing(5000)
  const dropped = await numberFrom(child.stdout)
  t.true(dropped > 1000)
  const expected = Array.from({ length: 5000 - dropped }, (_, line) => line)
  t.deepEqual(await read(child.stderr, expected.length), expected)
  child.stdin.end()
})

test('a reader who keeps up is given every line', async (t) => {
  const child = writing(500)
  const [dropped, numbers] = await Promise.all([numberFrom(child.stdout), read(child.stderr, 500)])
  t.is(dropped, 0)
  t.is(numbers.length, 500)
  child.stdin.end()
})

test('a disk that is full stops nobody', async (t) => {
  const full = await open('/dev/full', 'w')
  const child = writing(5000, full.fd)
  t.true((await numberFrom(child.stdout)) > 1000)
  const ended = once(child, 'exit')
  child.stdin.end()
  t.deepEqual(await ended, [0, null])
  await full.close()
})
