/*
 * One kind of load in a process of its own, so that neither kind waits for the other before its
 * requests are sent: people who sign in, or clients that refresh, as many at once as a phase says.
 */
import { setTimeout } from 'node:timers/promises'
import { type Keys, makeKey, prepare, send } from '../token/load.ts'
import { type LoadReport, peopleCount, refresh } from './flood.ts'
import { type Asked, openPerson, redeem, signIn } from './people.ts'

const [candidate, given, tokens] = process.argv.slice(2).map((text) => JSON.parse(text)) as [
  Asked,
  Keys,
  /** One for each client that refreshes; nothing for people. */
  string[] | null,
]
/** Nobody types a password again any faster. */
const pauseMs = 1000

const key: Keys = { ...given, ...makeKey(given.privateJwk) }
const once = tokens ? refreshOnce(tokens) : signInOnce

/** @returns whether it counts. One that is answered 503 counts for nothing, and begins again. */
async function signInOnce(slot: number, latencies: number[]): Promise<boolean> {
  const person = openPerson(candidate, slot % peopleCount, (fetch) => async (...request) => {
    const begun = performance.now()
    const response = await fetch(...request)
    latencies.push(performance.now() - begun)
    return response
  })
  const code = await signIn(person, 'with consent').catch(() => undefined)
  if (code === undefined) {
    await setTimeout(pauseMs)
    return false
  }
  await redeem(candidate, key, code)
  return true
}

/** Each by the token of the one before. */
function refreshOnce(tokens: string[]): typeof signInOnce {
  return async (slot, latencies) => {
    const prepared = prepare(candidate, refresh, key, undefined)
    const begun = performance.now()
    const { status, body } = await send(candidate, prepared, tokens[slot])
    if (status !== 200) throw new Error(`a refresh failed: ${body.error}`)
    latencies.push(performance.now() - begun)
    tokens[slot] = body.refresh_token ?? ''
    return true
  }
}

let ended = false
let endedAt = 0
let running: Promise<LoadReport> | undefined

async function run(atOnce: number): Promise<LoadReport> {
  const begunAt = performance.now()
  const latencies: number[] = []
  let count = 0
  await Promise.all(
    Array.from({ length: atOnce }, async (_, slot) => {
      while (!ended) {
        const counts = await once(slot, latencies)
        if (counts && !ended) count += 1
      }
    }),
  )
  const sorted = latencies.toSorted((a, b) => a - b)
  const p99_ms = Math.round(sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN)
  return { per_s: (count * 1000) / (endedAt - begunAt), p99_ms }
}

process.on('message', async (message: string) => {
  if (message === 'report') {
    ended = true
    endedAt = performance.now()
    process.send?.(await running)
  } else {
    ended = false
    running = run(Number(message))
  }
})
process.send?.('ready')
