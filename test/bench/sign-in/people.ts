import { hash } from 'node:crypto'
import { createPerson, type Person } from '../../support/flow.ts'
import type { CandidateProcess } from '../token/candidate-process.ts'
import { type Keys, prepare, send } from '../token/load.ts'
import {
  clientIdOf,
  codeVerifier,
  emailOf,
  password,
  redirectUri,
  type Way,
} from '../token/scenario.ts'

/** What people do, in this order: each way but the first is by the browser of the one before. */
export const ways = ['with consent', 'consent given before', 'signed in before'] as const
export type SignIn = (typeof ways)[number]

const prompts: Record<SignIn, Record<string, string>> = {
  'with consent': {},
  // The password is asked for, and the grant is there.
  'consent given before': { prompt: 'login' },
  'signed in before': {},
}

const client: Way = {
  grant: 'authorization_code',
  method: 'client_secret_basic',
  binding: 'dpop',
}

export type Asked = Pick<CandidateProcess, 'issuer' | 'secrets'>

/** Takes the place of `fetch` for what the browser of one person asks for. */
export type Watch = (fetch: typeof globalThis.fetch) => typeof globalThis.fetch

/** Someone in a network of their own, who is known to the proxy by it. */
export function openPerson(candidate: Asked, number: number, watch: Watch): Person {
  const address = `10.${number >> 8}.${number & 255}.7`
  const fetchFrom = watch((input, init) => {
    const headers = { ...(init?.headers as Record<string, string>), 'x-forwarded-for': address }
    return globalThis.fetch(input, { ...init, headers })
  })
  return createPerson(candidate, {
    credentials: { email: emailOf(number), password },
    fetch: fetchFrom,
  })
}

/** From the authorization request to the code. */
export async function signIn(person: Person, way: SignIn): Promise<string> {
  const arrived = await person.authorize({
    client_id: clientIdOf(client),
    response_type: 'code',
    redirect_uri: redirectUri,
    scope: 'openid profile email',
    state: 'state of the app',
    nonce: 'nonce of the app',
    code_challenge: hash('sha256', codeVerifier, 'base64url'),
    code_challenge_method: 'S256',
    ...prompts[way],
  })
  const code = arrived.searchParams.get('code')
  if (!code) throw new Error(`no code came back: ${arrived.href}`)
  return code
}

/** And from there to the tokens. */
export async function redeem(candidate: Asked, key: Keys, code: string): Promise<void> {
  const { status, body } = await send(candidate, prepare(candidate, client, key, code))
  if (status !== 200) throw new Error(`no tokens: ${body.error}`)
}
