import type { Browser } from '../../test/support/browser.ts'

export interface Row {
  /** The part of the story that the row belongs to, where it has parts. */
  readonly section?: string
  readonly who: 'owner' | 'thief'
  readonly case: string
  readonly expected: 'accept' | 'reject'
  readonly got: 'accept' | 'reject' | 'fault'
  /** Null where no single response decides. */
  readonly status: number | null
  /** The OAuth error code of a refusal. */
  readonly error: string | null
  /** What was seen, where the response alone does not show it. */
  readonly saw?: string
}

/** What a step has found where no single response decides. */
export interface Finding {
  readonly got: 'accept' | 'reject'
  readonly saw: string
}

/** A step ends with the response that decides it, or with what it has found. */
export type Step = () => Promise<Response | Finding>

export interface Runner {
  readonly rows: readonly Row[]
  /** Begins a part of the story. */
  section(title: string): void
  owner(name: string, expected: Row['expected'], step: Step): Promise<void>
  /** Whatever a thief does must be refused, but for what no binding prevents. */
  thief(name: string, step: Step, expected?: Row['expected']): Promise<void>
}

/** @param onRow told of each row as soon as it is known. */
export function createRunner(onRow: (row: Row) => void): Runner {
  const rows: Row[] = []
  let section: string | undefined
  const play = async (
    who: Row['who'],
    name: string,
    expected: Row['expected'],
    step: Step,
  ): Promise<void> => {
    const row = { ...(section && { section }), who, case: name, expected, ...(await judge(step)) }
    rows.push(row)
    onRow(row)
  }
  return {
    rows,
    section(title) {
      section = title
    },
    owner: (name, expected, step) => play('owner', name, expected, step),
    thief: (name, step, expected = 'reject') => play('thief', name, expected, step),
  }
}

/** Who signs in, and where the application that they sign in to waits for the code. */
export interface SignIn {
  readonly email: string
  readonly password: string
  readonly redirectUri: string
}

/** The login and the consent form, to the redirect that carries the code. */
export async function signIn(
  browser: Browser,
  authorizeUrl: URL,
  { email, password, redirectUri }: SignIn,
): Promise<URL> {
  const loginPage = await browser.visit(authorizeUrl)
  const consentPage = await browser.submit(loginPage, 'Sign in', { email, password })
  const arrived = await browser.submit(consentPage, 'Allow', {}, { until: redirectUri })
  return arrived.url
}

async function judge(step: Step): Promise<Pick<Row, 'got' | 'status' | 'error' | 'saw'>> {
  const response = await step()
  // Not every fetch has the global Response.
  if ('got' in response) return { status: null, error: null, ...response }
  const { status } = response
  if (response.ok) return { got: 'accept', status, error: null }
  const error = challengeError(response) ?? (await bodyError(response))
  // A refusal is one that speaks of the request. A server that breaks has refused nothing.
  const isRefusal = [400, 401, 403].includes(status) || (status === 404 && error !== null)
  return { got: isRefusal ? 'reject' : 'fault', status, error }
}

function challengeError(response: Response): string | null {
  return /error="([^"]+)"/.exec(response.headers.get('www-authenticate') ?? '')?.[1] ?? null
}

async function bodyError(response: Response): Promise<string | null> {
  try {
    return ((await response.json()) as { error?: string }).error ?? null
  } catch {
    return null
  }
}
