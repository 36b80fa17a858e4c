import type { Browser } from '../../test/support/browser.ts'

export interface Row {
  readonly who: 'owner' | 'thief'
  readonly case: string
  readonly expected: 'accept' | 'reject'
  readonly got: 'accept' | 'reject' | 'fault'
  readonly status: number
  /** The OAuth error code of a refusal. */
  readonly error: string | null
}

/** A step ends with the response that decides it. */
type Step = () => Promise<Response>

export interface Runner {
  readonly rows: readonly Row[]
  owner(name: string, expected: Row['expected'], step: Step): Promise<void>
  /** Whatever a thief does must be refused, but for what no binding prevents. */
  thief(name: string, step: Step, expected?: Row['expected']): Promise<void>
}

/** @param onRow told of each row as soon as it is known. */
export function createRunner(onRow: (row: Row) => void): Runner {
  const rows: Row[] = []
  const play = async (
    who: Row['who'],
    name: string,
    expected: Row['expected'],
    step: Step,
  ): Promise<void> => {
    const row = { who, case: name, expected, ...(await judge(step)) }
    rows.push(row)
    onRow(row)
  }
  return {
    rows,
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

async function judge(step: Step): Promise<Pick<Row, 'got' | 'status' | 'error'>> {
  const response = await step()
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
