/**
 * Sources with all of their mutants in them: each guard asks at run time whether it is broken. One
 * process can so run its tests for one mutant after the other, and knows which of them a test reaches.
 */
import { createHash } from 'node:crypto'
import { registerHooks } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Mutant, mutantsOf } from './guards.ts'
import { folders, root } from './suites.ts'

/** Where a mutant is reached outside of tests. */
export const whileLoading = 'while loading'
export const inHooks = 'in hooks'

export const hashOf = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12)

/** The name of a mutant, which another one has when the source has changed. */
export function nameOf(file: string, text: string, { start, end, replacement }: Mutant): string {
  return `${file}@${hashOf(text)}:${start}-${end}:${replacement}`
}

/** A source in which each guard asks `isBroken` for its mutants. */
export function instrumented(file: string, text: string): string {
  const mutants = mutantsOf(file, text)
  function write(from: number, to: number, inner: readonly Mutant[]): string {
    const outermost = inner.reduce<Mutant | undefined>(
      (first, one) =>
        !first || one.start < first.start || (one.start === first.start && one.end > first.end)
          ? one
          : first,
      undefined,
    )
    if (!outermost) return text.slice(from, to)
    const { start, end } = outermost
    const same = inner.filter((one) => one.start === start && one.end === end)
    const within = inner.filter((one) => one.end <= end && !same.includes(one))
    const asks = same.map(
      (one) => `isBroken(${JSON.stringify(nameOf(file, text, one))})?(${one.replacement}):`,
    )
    const after = inner.filter((one) => one.start >= end)
    const guard = write(start, end, within)
    return `${text.slice(from, start)}(${asks.join('')}(${guard}))${write(end, to, after)}`
  }
  return write(0, text.length, mutants)
}

/** Has the sources of {@link folders} instrumented as they are loaded, and asked by `isBroken`. */
export function instrumentSources(isBroken: (mutant: string) => boolean): void {
  Object.assign(globalThis, { isBroken })
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context)
      const file = url.startsWith('file:') ? path.relative(root, fileURLToPath(url)) : url
      const isSource = file.endsWith('.ts') && folders.some((name) => file.startsWith(`${name}/`))
      return isSource ? { ...loaded, source: instrumented(file, String(loaded.source)) } : loaded
    },
  })
}
