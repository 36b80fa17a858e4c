import { testPassword } from './accounts.ts'
import { begin, type Interacting, interact, signIn } from './journey.ts'
import { query } from './query.ts'
import { email, password, type TestServer } from './server.ts'
import type { Page, UserAgent } from './user-agent.ts'
import { refreshProof, registrationProof } from './verify/dbsc.ts'
import { makeKey, type TestKey } from './verify/keys.ts'

/** The browser's half of a device-bound session: a key, and what the server said last. */
export interface Device {
  readonly agent: UserAgent
  readonly key: TestKey
  /** Answers the offer that came with a response. */
  register(offer: Page, claims?: Record<string, unknown>, key?: TestKey): Promise<Page>
  /** Asks for a challenge and answers it. */
  refresh(key?: TestKey): Promise<Page>
  /** Sends one request to the refresh endpoint. */
  ask(proof?: string): Promise<Page>
  readonly session: string
}

export function createDevice({ issuer }: Pick<TestServer, 'issuer'>, agent: UserAgent): Device {
  const key = makeKey()
  let session = ''

  const post = (path: string, headers: Record<string, string>) =>
    agent.post(`${issuer}/dbsc/${path}`, {}, headers)
  const ask = (proof?: string) =>
    post('refresh', {
      'sec-secure-session-id': session,
      ...(proof && { 'secure-session-response': proof }),
    })

  return {
    agent,
    key,
    get session() {
      return session
    },
    ask,

    async register(offer, claims = {}, by = key) {
      const header = offer.headers.get('secure-session-registration') ?? ''
      const parameter = (name: string) => new RegExp(`;${name}="([^"]+)"`).exec(header)?.[1]
      const offered = { jti: parameter('challenge'), authorization: parameter('authorization') }
      const proof = registrationProof({ ...offered, ...claims }, {}, by)
      const answer = await post('registration', { 'secure-session-response': proof })
      if (answer.status === 200) session = JSON.parse(answer.text).session_identifier
      return answer
    },

    async refresh(by = key) {
      return ask(refreshProof({ jti: challengeOf(await ask()) }, {}, by))
    },
  }
}

export function challengeOf({ headers }: Page): string {
  return /^"([^"]+)"/.exec(headers.get('secure-session-challenge') ?? '')?.[1] ?? ''
}

/** Somebody who has typed their password: the response that offers registration, and consent. */
export interface SignedIn {
  readonly device: Device
  readonly offer: Page
  readonly consent: Interacting
}

export async function signInAt(
  server: TestServer,
  parameters: Record<string, string>,
  { agent, as = { email, password } }: { agent?: UserAgent; as?: Record<string, string> } = {},
): Promise<SignedIn> {
  const login = await begin({ origin: server.issuer }, parameters, agent)
  const posted = await signIn(login, { password: testPassword, ...as })
  const offer = await login.agent.get(posted.location ?? '')
  return {
    device: createDevice(server, login.agent),
    offer,
    consent: await interact(login.agent, offer),
  }
}

/** Says yes, and goes on to where the app is told. */
export async function allow({ agent, url, token }: Interacting): Promise<URL> {
  const { location } = await agent.follow(await agent.post(`${url}/confirm`, { token }))
  return new URL(location ?? '')
}

/** Lets the moment pass in which requests may not know of a binding yet. */
export const letMomentPass = (databaseUrl: string, uid: string) =>
  moveBinding(databaseUrl, uid, '-1 minute')

/** Lets that moment last for as long as any test. */
export const holdMoment = (databaseUrl: string, uid: string) =>
  moveBinding(databaseUrl, uid, '1 hour')

async function moveBinding(databaseUrl: string, uid: string, by: string): Promise<void> {
  const text = 'update session_bindings set bound_at = now() + $2::interval where uid = $1'
  await query(databaseUrl, text, [uid, by])
}
