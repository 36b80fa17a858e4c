import { performance } from 'node:perf_hooks'

/** What clients saw while something happened. */
export interface Testimony {
  /** Answers by status; `none` is a request that got no answer. */
  readonly answers: Readonly<Record<string, number>>
  /** The longest time in which no token was issued. */
  readonly withoutService_s: number
  /** The longest that a client waited for any answer. */
  readonly longestWait_s: number
}

/** Sends requests, and remembers what came of them. */
export interface Witness {
  readonly fetch: typeof globalThis.fetch
  /** Forgets what was before. */
  begin(): void
  testify(): Testimony
}

/** @param patienceMs after which a request is given up: it hangs. */
export function createWitness({
  patienceMs,
  now = () => performance.now(),
}: {
  patienceMs: number
  now?: () => number
}): Witness {
  let answers: Record<string, number> = {}
  let lastToken = now()
  let gapMs = 0
  let waitMs = 0
  return {
    async fetch(input, init) {
      const begun = now()
      const signal = AbortSignal.timeout(patienceMs)
      const response = await fetch(input, { ...init, signal }).catch(() => undefined)
      waitMs = Math.max(waitMs, now() - begun)
      const status = response ? String(response.status) : 'none'
      answers[status] = (answers[status] ?? 0) + 1
      if (response?.ok && String(input).endsWith('/token')) {
        gapMs = Math.max(gapMs, now() - lastToken)
        lastToken = now()
      }
      if (!response) throw new Error('no answer')
      return response
    },
    begin() {
      answers = {}
      lastToken = now()
      gapMs = 0
      waitMs = 0
    },
    testify() {
      gapMs = Math.max(gapMs, now() - lastToken)
      const seconds = (milliseconds: number) => Number((milliseconds / 1000).toFixed(1))
      return {
        answers: { ...answers },
        withoutService_s: seconds(gapMs),
        longestWait_s: seconds(waitMs),
      }
    },
  }
}
