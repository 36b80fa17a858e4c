import { begin, type Interacting, interact, signIn } from './journey.ts'
import type { TestServer } from './server.ts'
import type { Page, UserAgent } from './user-agent.ts'
import { refreshProof, registrationProof } from './verify/dbsc.ts'
import { makeKey, type TestKey } from './verify/keys.ts'

/** What the script of our pages does: a key, and what the server said last. */
export interface PageScript {
  readonly agent: UserAgent
  readonly key: TestKey
  /** Sends one request to the refresh endpoint, as a script can. */
  ask(proof?: string): Promise<Page>
  /** Asks for a challenge and answers it. */
  refresh(key?: TestKey): Promise<Page>
}

export function createPageScript(
  { issuer }: Pick<TestServer, 'issuer'>,
  agent: UserAgent,
  key = makeKey('ES256'),
): PageScript {
  const ask = (proof?: string) =>
    agent.post(`${issuer}/dbsc/refresh`, {}, proof ? { 'secure-session-response': proof } : {})
  return {
    agent,
    key,
    ask,
    async refresh(by = key) {
      return ask(refreshProof({ jti: challengeIn(await ask()) }, {}, by))
    },
  }
}

/** The challenge of an answer to a refresh. */
export function challengeIn({ headers }: Page): string {
  return /^"([^"]+)"/.exec(headers.get('secure-session-challenge') ?? '')?.[1] ?? ''
}

/** The challenge of a sign-in page; undefined for one that registers no key. */
export function pageChallengeOf({ text }: Page): string | undefined {
  return /data-page-key="([^"]+)"/.exec(text)?.[1]
}

/** Someone who has typed their password on a page whose script has registered a key. */
export interface SignedInByPage {
  readonly script: PageScript
  /** The response that has made the session. */
  readonly resumed: Page
  readonly consent: Interacting
}

interface SignInOptions {
  readonly agent?: UserAgent
  /** What the script puts into the form. */
  readonly proof?: (challenge: string, key: TestKey) => string
  readonly site?: string
  readonly fields?: Record<string, string>
}

/** Up to the response that has made the session. */
export async function registerByPage(
  server: TestServer,
  parameters: Record<string, string>,
  { agent, proof, site = 'same-origin', fields = {} }: SignInOptions = {},
): Promise<Omit<SignedInByPage, 'consent'>> {
  const login = await begin({ origin: server.issuer }, parameters, agent)
  const script = createPageScript(server, login.agent)
  const challenge = pageChallengeOf(login.page) ?? ''
  const made = proof?.(challenge, script.key) ?? proofOf(challenge, script.key)
  const said = createHeaders(login.agent, { 'sec-fetch-site': site })
  const posted = await signIn({ ...login, agent: said }, { page_key: made, ...fields })
  return { script, resumed: await login.agent.get(posted.location ?? '') }
}

/** Up to the page that the response to the sign-in leads to. */
export async function signInByPage(
  server: TestServer,
  parameters: Record<string, string>,
  options: SignInOptions = {},
): Promise<SignedInByPage> {
  const { script, resumed } = await registerByPage(server, parameters, options)
  return { script, resumed, consent: await interact(script.agent, resumed) }
}

const proofOf = (jti: string, key: TestKey) => registrationProof({ jti }, {}, key)

/** The same browser, which sends these fields with each form. */
function createHeaders(agent: UserAgent, headers: Record<string, string>): UserAgent {
  return { ...agent, post: (url, fields, more) => agent.post(url, fields, { ...headers, ...more }) }
}
