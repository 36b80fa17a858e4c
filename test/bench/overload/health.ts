import { get } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import type { Result } from './result.ts'
import { createTimes } from './times.ts'

const periodMs = 200

/** Asks for the health of a server, on new connections, until it is stopped. */
export function watchHealth(issuer: string): () => Promise<Result['health']> {
  const times = createTimes()
  let failures = 0
  let isOver = false
  async function watch(path: string): Promise<void> {
    while (!isOver) {
      const started = performance.now()
      if ((await statusOf(issuer + path)) !== 200) failures += 1
      times.record(performance.now() - started)
      await setTimeout(periodMs)
    }
  }
  const watching = Promise.all([watch('/livez'), watch('/readyz')])
  return async () => {
    isOver = true
    await watching
    return { ...times.summary(), failures }
  }
}

/** Undefined where there is no answer. */
function statusOf(url: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const asked = get(url, { agent: false, timeout: 10_000 }, (response) => {
      response.resume()
      response.once('end', () => resolve(response.statusCode))
    })
    asked.once('timeout', () => asked.destroy())
    asked.once('error', () => resolve(undefined))
  })
}
