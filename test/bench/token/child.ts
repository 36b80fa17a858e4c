// One candidate in a process of its own, driven by messages of the benchmark.
import { startHoldfast } from './holdfast.ts'
import type { CandidateOptions, Peer } from './scenario.ts'
import { startKnex, startMemory } from './stock.ts'

const start = { holdfast: startHoldfast, knex: startKnex, memory: startMemory }

const [name, options] = process.argv.slice(2) as [Peer, string]
const candidate = await start[name](JSON.parse(options) as CandidateOptions)

export type Order =
  | { readonly ask: 'usage' }
  | { readonly ask: 'refresh tokens'; clientId: string; jkt: string; count: number }
  | { readonly ask: 'end' }

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
    case 'refresh tokens': {
      const { clientId, jkt, count } = order
      process.send?.(await candidate.makeRefreshTokens(clientId, jkt, count))
      return
    }
    case 'end':
      await candidate[Symbol.asyncDispose]()
      process.disconnect()
  }
})
const { issuer, clientSecret, bearerSecret } = candidate
process.send?.({ issuer, clientSecret, bearerSecret })
