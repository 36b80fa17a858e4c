/** Loaded before a test: changes one source as it is read. Files stay as they are. */
import { registerHooks } from 'node:module'

/** A mutant of a file, as the processes of a test are handed it. */
export interface AppliedMutant {
  readonly url: string
  readonly start: number
  readonly end: number
  readonly replacement: string
}

const { HOLDFAST_MUTANT: given } = process.env
const mutant: AppliedMutant | undefined = given ? JSON.parse(given) : undefined
if (mutant) {
  const { start, end, replacement } = mutant
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context)
      if (url !== mutant.url) return loaded
      const text = String(loaded.source)
      return { ...loaded, source: text.slice(0, start) + replacement + text.slice(end) }
    },
  })
}
