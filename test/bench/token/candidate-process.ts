import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Profiler } from 'node:inspector'
import { createRequire } from 'node:module'
import type { Order } from './child.ts'
import type { Candidate, CandidateOptions, CredentialOrder, Peer } from './scenario.ts'

const heapLimits: (options: readonly string[]) => string[] = createRequire(import.meta.url)(
  '../../../bin/heap-limits.cjs',
)

export interface Usage {
  /** Microseconds of CPU, user and system, of the whole process. */
  readonly cpu: number
  readonly statements: number
  /** Bytes of memory at most, until now. */
  readonly peakMemory: number
}

export interface CandidateProcess extends AsyncDisposable {
  readonly peer: Peer
  readonly issuer: string
  readonly secrets: Candidate['secrets']
  usage(): Promise<Usage>
  /** The names of the statements that requests have waited for since the last call. */
  takeStatements(): Promise<string[]>
  makeCredentials(order: CredentialOrder): Promise<string[]>
  startProfile(): Promise<void>
  profile(): Promise<Profiler.Profile>
}

/** Starts a candidate as its command would: `holdfast serve` limits the heap of V8. */
export async function startCandidate(
  peer: Peer,
  options: CandidateOptions,
  execArgv = peer === 'holdfast' ? heapLimits([process.env.NODE_OPTIONS ?? '']) : [],
): Promise<CandidateProcess> {
  const child = fork(new URL('child.ts', import.meta.url), [peer, JSON.stringify(options)], {
    // Logs are written, as in production, and read by nobody.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv,
  })
  const exited = once(child, 'exit')
  const answer = async () => {
    const answered = once(child, 'message').then(([message]) => message)
    const ended = exited.then(() => Promise.reject(new Error(`${peer} ended too early`)))
    return Promise.race([answered, ended])
  }
  const ask = (order: Order) => {
    const answered = answer()
    child.send(order)
    return answered
  }
  const { issuer, secrets } = await answer()
  return {
    peer,
    issuer,
    secrets,
    usage: () => ask({ ask: 'usage' }),
    takeStatements: () => ask({ ask: 'statements' }),
    makeCredentials: (order) => ask({ ask: 'credentials', order }),
    startProfile: () => ask({ ask: 'start profile' }),
    profile: () => ask({ ask: 'profile' }),
    async [Symbol.asyncDispose]() {
      child.send({ ask: 'end' } satisfies Order)
      await exited
    },
  }
}
