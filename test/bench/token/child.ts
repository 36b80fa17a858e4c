// One candidate in a process of its own, driven by messages of the benchmark.
import { Session } from 'node:inspector/promises'
import { startByHand } from './by-hand.ts'
import { startHoldfast } from './holdfast.ts'
import type { CandidateOptions, CredentialOrder, Peer } from './scenario.ts'
import { startKnex, startMemory } from './stock.ts'

const start = { holdfast: startHoldfast, knex: startKnex, memory: startMemory, hand: startByHand }

const [name, options] = process.argv.slice(2) as [Peer, string]
const candidate = await start[name](JSON.parse(options) as CandidateOptions)

export type Order =
  | { readonly ask: 'usage' }
  /** The names of the statements since the last order of this kind. */
  | { readonly ask: 'statements' }
  | { readonly ask: 'credentials'; readonly order: CredentialOrder }
  /** What the process does until it is asked for the profile. */
  | { readonly ask: 'start profile' }
  | { readonly ask: 'profile' }
  | { readonly ask: 'end' }

const inspector = new Session()

process.on('message', async (order: Order) => {
  switch (order.ask) {
    case 'usage': {
      const { user, system } = process.cpuUsage()
      process.send?.({
        cpu: user + system,
        statements: candidate.countStatements(),
        peakMemory: process.resourceUsage().maxRSS * 1024,
      })
      return
    }
    case 'statements':
      process.send?.(candidate.takeStatements?.() ?? [])
      return
    case 'credentials':
      process.send?.(await candidate.makeCredentials(order.order))
      return
    case 'start profile':
      inspector.connect()
      await inspector.post('Profiler.enable')
      await inspector.post('Profiler.setSamplingInterval', { interval: 200 })
      await inspector.post('Profiler.start')
      process.send?.({})
      return
    case 'profile':
      process.send?.((await inspector.post('Profiler.stop')).profile)
      return
    case 'end':
      await candidate[Symbol.asyncDispose]()
      process.disconnect()
  }
})
const { issuer, secrets } = candidate
process.send?.({ issuer, secrets })
