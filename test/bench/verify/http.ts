/** Whole HTTP requests, by the CPU time of the process that serves them. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import type { Measurements, OnRound } from './measure.ts'
import { freshProof, freshToken, jwks } from './requests.ts'

const operations = 320
const concurrency = 16

export async function measureHttp(
  rounds: number,
  warmUp: number,
  onRound: OnRound = () => {},
): Promise<Measurements> {
  const names = ['ours', 'jose', 'auth0']
  const measured = new Map<string, number[]>(names.map((name) => [name, []]))
  await using stack = new AsyncDisposableStack()
  const servers: [string, Awaited<ReturnType<typeof startServer>>][] = []
  for (const name of names) servers.push([name, stack.use(await startServer(name))])
  const token = freshToken()
  for (let round = -warmUp; round < rounds; round++) {
    onRound(round + warmUp, rounds + warmUp)
    for (const [name, server] of servers) {
      const cost = await server.serve(token)
      if (round >= 0) measured.get(name)?.push(cost)
    }
  }
  return measured
}

async function startServer(name: string) {
  const file = new URL('./http-server.ts', import.meta.url)
  const child = fork(file, [name, JSON.stringify(jwks)])
  const [port] = await once(child, 'message')
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })

  async function cpu(): Promise<number> {
    const answered = once(child, 'message')
    child.send('cpu')
    const [{ user, system }] = await answered
    return user + system
  }

  function send(token: string, proof: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const headers = {
        ...{ host: 'api.example', 'x-forwarded-proto': 'https' },
        ...{ authorization: `DPoP ${token}`, dpop: proof },
      }
      request({ host: '127.0.0.1', port, path: '/notes?limit=3', headers, agent }, (response) => {
        response.resume()
        response.on('end', () => {
          if (response.statusCode === 200) resolve()
          else reject(new Error(`${name} answered ${response.statusCode}`))
        })
      })
        .on('error', reject)
        .end()
    })
  }

  return {
    /** CPU microseconds of the server for one request. */
    async serve(token: string): Promise<number> {
      const proofs = Array.from({ length: operations }, () => freshProof(token))
      const before = await cpu()
      for (let at = 0; at < operations; at += concurrency) {
        await Promise.all(proofs.slice(at, at + concurrency).map((proof) => send(token, proof)))
      }
      return ((await cpu()) - before) / operations
    },
    async [Symbol.asyncDispose]() {
      agent.destroy()
      const exited = once(child, 'exit')
      child.kill()
      await exited
    },
  }
}
