/** `WWW-Authenticate` challenges (RFC 9110 section 11.6.1) for a refusal. */
import type { Credential } from './credentials.ts'
import type { VerifyError } from './errors.ts'

/** What a resource tells clients about itself in each challenge. */
export type ChallengeOptions = Readonly<{
  /** DPoP algorithms to announce; `undefined` when the resource does not take DPoP. */
  dpopAlgorithms?: readonly string[] | undefined
  /** Whether anything can be done with the Bearer scheme here. */
  bearer: boolean
  /** RFC 9110 protection space. */
  realm?: string | undefined
  /** URL of the protected resource metadata (RFC 9728 section 5.1). */
  resourceMetadata?: string | undefined
  /** Space-delimited scopes that a client should ask for first (RFC 6750 section 3). */
  scope?: string | undefined
}>

/** What a refusal adds: which scopes or which authentication would do. */
export type ChallengeParameters = Readonly<{
  /** RFC 6750 section 3: space-delimited scopes needed. */
  scope?: string
  /** RFC 9470 section 3: space-delimited authentication context classes, best first. */
  acr_values?: string
  /** RFC 9470 section 3: seconds since the user was last authenticated. */
  max_age?: string
}>

/**
 * The challenges of a refusal, one string per header field.
 *
 * RFC 9449 section 7.2: the error belongs to the scheme that was used; no error at all when no
 * credentials came (RFC 6750 section 3.1); in every challenge when it is unclear which was meant.
 */
export function challengesFor(
  error: Pick<VerifyError, 'error' | 'message'>,
  scheme: Credential['scheme'] | undefined,
  options: ChallengeOptions,
  parameters: ChallengeParameters = {},
): readonly string[] {
  const { dpopAlgorithms, bearer, realm, resourceMetadata } = options
  const details: Record<string, string | undefined> =
    error.error === undefined
      ? {}
      : { error: error.error, error_description: error.message, ...parameters }
  const scope = error.error === 'insufficient_scope' ? undefined : options.scope
  const offered = [...(bearer ? ['Bearer'] : []), ...(dpopAlgorithms ? ['DPoP'] : [])]
  // A proof that failed says nothing to a client that reads only the Bearer challenge.
  const used = error.error?.includes('dpop') ? 'DPoP' : scheme
  const unclear = used === undefined || !offered.includes(used)
  return offered.map((name) =>
    render(name, {
      realm,
      ...(scope !== undefined && { scope }),
      ...(unclear || used === name ? details : {}),
      ...(name === 'DPoP' ? { algs: dpopAlgorithms?.join(' ') } : {}),
      resource_metadata: resourceMetadata,
    }),
  )
}

function render(scheme: string, parameters: Record<string, string | undefined>): string {
  const rendered = Object.entries(parameters)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}="${(value as string).replace(/["\\]/g, '\\$&')}"`)
  return rendered.length === 0 ? scheme : `${scheme} ${rendered.join(', ')}`
}
