/** A gate in a process of its own, with sessions of browsers that nobody had to sign in for. */
import { fork } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { sessionCookie } from '../../../packages/gate/browser/cookies.ts'
import { createSealer } from '../../../packages/gate/browser/sealing.ts'
import {
  createMemorySessionStore,
  type SessionStore,
} from '../../../packages/gate/browser/sessions.ts'
import { parseConfig } from '../../../packages/gate/config.ts'
import { createGate } from '../../../packages/gate/gate.ts'
import { listen } from '../../../packages/gate/listener.ts'
import { readKey } from '../../../packages/gate/load.ts'
import { makeTicket } from '../../../packages/verify/lib/ticket.ts'
import { audience } from '../../support/verify/fixtures.ts'
import { makeKey } from '../../support/verify/keys.ts'

/** What the process is started with. */
export interface GateProcessOptions {
  readonly upstream: string
  readonly sessions: number
  /** Of the issuer of access tokens. */
  readonly jwks: object
  /** A folder for a CPU profile. */
  readonly profile?: string | undefined
}

/** What it answers when it listens. */
interface Started {
  readonly port: number
  /** A `Cookie` field for each session. */
  readonly cookies: readonly string[]
}

export interface GateProcess extends Started, AsyncDisposable {
  readonly pid: number
  /** Reads of the store since the start. */
  lookUps(): Promise<number>
}

/** Starts it. */
export async function startGateProcess(options: GateProcessOptions): Promise<GateProcess> {
  const child = fork(import.meta.filename, [JSON.stringify(options)], {
    env: { ...process.env, NODE_ENV: 'production' },
    execArgv: options.profile ? ['--cpu-prof', `--cpu-prof-dir=${options.profile}`] : [],
  })
  const [started] = (await once(child, 'message')) as [Started]
  return {
    ...started,
    pid: child.pid ?? 0,
    async lookUps() {
      child.send('lookUps')
      const [count] = (await once(child, 'message')) as [number]
      return count
    },
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit')
      child.disconnect()
      await ended
    },
  }
}

async function makeSessions(store: SessionStore, secret: Buffer, count: number): Promise<string[]> {
  const sealer = createSealer([secret])
  const nowMs = Date.now()
  const hour = 3_600_000
  const cookies: string[] = []
  const dbsc = sealer.derive(`dbsc ${audience}`)[0] as Buffer
  const { publicJwk } = makeKey()
  for (let at = 0; at < count; at += 1) {
    const value = randomBytes(32).toString('base64url')
    const id = hash('sha256', value, 'base64url')
    const session = {
      ...{ id, application: audience, issuer: 'https://as.example', subject: `person-${at}` },
      claims: { iss: 'https://as.example', sub: `person-${at}`, email: `p${at}@example.com` },
      ...{ startedAtMs: nowMs, endsAtMs: nowMs + hour, idleEndsAtMs: nowMs + hour },
      ...{ renewAtMs: nowMs + hour, askedAcr: [], version: 0 },
      // As long as that of a real session: a key, an ID token and two tokens.
      sealed: randomBytes(1800).toString('base64url'),
      key: {
        ...({ method: 'dbsc', jkt: 'x'.repeat(43), alg: 'ES256' } as const),
        ...{ jwk: publicJwk as never, atMs: nowMs - hour },
      },
    }
    await store.insert(session, 10, nowMs)
    const code = sealer.authenticate(`cookie ${audience}`, value)
    const bound = makeTicket(dbsc, ['companion', id], nowMs)
    cookies.push(`${sessionCookie}=${value}.${code}; ${sessionCookie}-bound=${bound}`)
  }
  return cookies
}

async function run({ upstream, sessions: count, jwks }: GateProcessOptions): Promise<void> {
  const secret = randomBytes(32)
  const memory = createMemorySessionStore({ capacity: 100_000 })
  const cookies = await makeSessions(memory, secret, count)
  let lookUps = 0
  const sessions: SessionStore = {
    ...memory,
    find(...parameters) {
      lookUps += 1
      return memory.find(...parameters)
    },
  }
  const config = parseConfig(
    JSON.stringify({
      listen: { port: 0 },
      issuer: { url: 'https://as.example', jwksUri: 'https://as.example/jwks' },
      signing: { keyFiles: ['unused'] },
      browsers: { secretFiles: ['unused'] },
      trustedProxies: ['127.0.0.1'],
      limits: { replayEntries: 2_000_000 },
      applications: [
        {
          origin: audience,
          upstream: { url: upstream },
          openid: { clientId: 'bench', proofS: 3600 },
        },
      ],
    }),
  )
  const pem = makeKey('EdDSA').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  const gate = createGate({
    ...{ config, keys: [await readKey(pem)], files: [{}], clientKeys: [undefined] },
    ...{ secrets: [secret], sessions, fetch: async () => Response.json(jwks) },
  })
  const { port } = await listen(gate, config)
  process.send?.({ port, cookies } satisfies Started)
  process.on('message', () => process.send?.(lookUps))
  process.on('disconnect', () => process.exit())
}

if (process.argv[1] === import.meta.filename && process.send) {
  await run(JSON.parse(process.argv[2] ?? '') as GateProcessOptions)
}
