import test from 'ava'
import { mutantsOf } from './guards.ts'

const source = `
export function decide(found: Found | undefined): Issue | Refusal {
  if (!found || found.used) return refuse('used')
  if (found.cached) return found
  if (isOpen(found)) note(found)
  return found.good ? issue(found) : refuse('bad')
}
const isOpen = (found: Found) => found.open && !found.closed
const has = (all: Found[]) => all.map((one) => one.open && one.good)
const find = (name?: string) => lookUp(name) ?? refuse('unknown')
`

test('breaks conditions that refuse, each operand that decides alone, and answers yes or no', (t) => {
  const mutants = mutantsOf('source.ts', source).map(
    ({ line, guard, replacement }) => `${line}: ${guard} -> ${replacement}`,
  )
  t.deepEqual(mutants, [
    '3: !found || found.used -> false',
    '3: !found -> false',
    '3: found.used -> false',
    '6: found.good -> true',
    '8: found.open && !found.closed -> true',
    '8: found.open -> true',
    '8: found.open && !found.closed -> false',
    '8: !found.closed -> true',
    '9: all.map((one) => one.open && one.good) -> true',
    '9: all.map((one) => one.open && one.good) -> false',
    "10: lookUp(name) ?? refuse('unknown') -> lookUp(name)",
  ])
})
