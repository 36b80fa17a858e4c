/** Runs the attack table against one adapter. */
import type { Facts } from '../../packages/verify/answer.ts'
import { VerifyError } from '../../packages/verify/errors.ts'
import type { VerifyEvent } from '../../packages/verify/events.ts'
import type { VerifierOptions } from '../../packages/verify/options.ts'
import { createMemoryReplayStore } from '../../packages/verify/replay.ts'
import type { Adapter, Target } from '../support/verify/core-adapter.ts'
import { verifierWith } from '../support/verify/fixtures.ts'
import { type AttackRow, attackTable, type Profile } from './table.ts'

/** One row and what became of it; `status` and `error` are what the client saw. */
export type Result = Readonly<{
  adapter: string
  case: string
  expected: string
  got: string
  status: number
  error: string | null
}>

const profiles: Readonly<Record<Profile, Partial<VerifierOptions>>> = {
  default: {},
  everywhere: { tokenLocations: ['header', 'body', 'query'] },
  lax: { tokenLocations: ['header', 'body', 'query'], allowBearer: true },
}

export function passed({ expected, got, status }: Result): boolean {
  return expected === got && status === expectedStatus(expected)
}

function expectedStatus(expected: string): number {
  if (expected === 'accepted') return 200
  return new VerifyError(expected as VerifyError['code'], '').status
}

/** HTTP/2 forbids what it cannot carry, and fetch joins it: those have rows of their own. */
function canSay(adapter: string, row: AttackRow): boolean {
  return !(row.needsRepeatedFields && /h2$/.test(adapter))
}

export async function runTable(name: string, adapter: Adapter): Promise<Result[]> {
  const started: Target[] = []
  const results: Result[] = []
  for (const profile of Object.keys(profiles) as Profile[]) {
    let facts: Facts = {}
    const outcomes: string[] = []
    const onEvent = (event: VerifyEvent) => {
      if (event.type === 'accepted') outcomes.push('accepted')
      if (event.type === 'refused') outcomes.push(event.code)
    }
    const replay = { ...createMemoryReplayStore({ capacity: 10_000 }), shared: true }
    const options = { ...profiles[profile], replay, replicas: 2, onEvent }
    const start = () => adapter(verifierWith(options), () => facts)
    const nodes = [await start(), await start()] as const
    started.push(...nodes)

    for (const row of attackTable) {
      if ((row.profile ?? 'default') !== profile || !canSay(name, row)) continue
      outcomes.length = 0
      const attacks = row.repeat ? [row.attack(), row.attack()] : [row.attack()]
      // The same bytes again, but where a row makes a difference itself.
      const [first = row.attack(), second = first] = attacks
      const again = row.case.includes('malleated') ? second : first
      facts = first.facts ?? {}
      const node = row.repeat === 'on-two-nodes' ? nodes[1] : nodes[0]
      const sending = [nodes[0].send(first)]
      if (row.repeat && row.repeat !== 'at-once') await sending[0]
      if (row.repeat) sending.push(node.send(again))
      const replies = await Promise.all(sending)

      const refused = outcomes.filter((outcome) => outcome !== 'accepted')
      const right = row.repeat === undefined || outcomes.length - refused.length === 1
      const got = right ? (refused[0] ?? outcomes[0] ?? 'nothing') : `all of ${outcomes.join()}`
      const reply = replies.find(({ status }) => status !== 200) ?? replies[0]
      results.push({
        adapter: name,
        case: row.case,
        expected: row.expected,
        got,
        status: reply?.status ?? 0,
        error: errorOf(reply?.body ?? ''),
      })
    }
  }
  for (const target of started) await target[Symbol.asyncDispose]()
  return results
}

function errorOf(body: string): string | null {
  return body === '' ? null : (JSON.parse(body).error ?? null)
}
