import { z } from 'zod'
import { canonicalDomain } from '../net/domain.ts'

/** Who may make an account for themselves. */
export type SignUpPolicy =
  | { readonly mode: 'closed' }
  /** Those who have the code of an invitation. */
  | { readonly mode: 'invitation' }
  /** Those who read the mail of an address at one of these domains, in their canonical form. */
  | { readonly mode: 'domains'; readonly domains: readonly string[] }

const prefix = 'domains:'

function readPolicy(text: string): SignUpPolicy | undefined {
  if (text === 'closed' || text === 'invitation') return { mode: text }
  if (!text.startsWith(prefix)) return undefined
  const typed = text.slice(prefix.length).split(',')
  const domains = typed.flatMap((domain) => canonicalDomain(domain.trim()) ?? [])
  const isRight = domains.length === typed.length && domains.every((each) => host.test(each))
  return isRight ? { mode: 'domains', domains: [...new Set(domains)] } : undefined
}

/** Two labels at least: a word alone would be a misspelt mode. */
const host = /^[a-z\d-]+(\.[a-z\d-]+)+$/

export const signUpVariables = {
  HOLDFAST_SIGN_UP: z
    .string()
    .refine(
      (text) => readPolicy(text) !== undefined,
      'must be closed, invitation, or domains: and names such as domains:example.org,example.com',
    )
    .default('closed'),
}

const variables = z.object(signUpVariables)

export function signUpPolicy(values: z.output<typeof variables>): SignUpPolicy {
  return readPolicy(values.HOLDFAST_SIGN_UP) ?? { mode: 'closed' }
}

/** Mistakes that only several variables together show. */
export function signUpContradictions({
  HOLDFAST_SIGN_UP: signUp = 'closed',
  HOLDFAST_SMTP_URL: smtp,
}: Readonly<Record<string, string | undefined>>): string[] {
  const policy = readPolicy(signUp)
  if (!policy || policy.mode === 'closed' || smtp) return []
  return [
    'HOLDFAST_SMTP_URL is missing: HOLDFAST_SIGN_UP verifies each address by a mail before it makes an account.',
  ]
}
