import { GuardedFetchError, type GuardedFetchErrorCode } from './guarded-fetch.ts'

/** Why a document of a client could not be fetched. */
export interface FetchProblem {
  /** It says nothing of names and addresses: the client has chosen them, and may be looking for some. */
  readonly forClient: string
  readonly forOperator: string
}

const sentences: Readonly<Record<GuardedFetchErrorCode, string>> = {
  not_https: 'its URL must be https, without a user name',
  special_address: 'its host has no public address, or does not answer',
  unreachable: 'its host has no public address, or does not answer',
  redirected: 'it is a redirect, which is not followed',
  too_large: 'it is too large',
  timed_out: 'it did not arrive in time',
  too_many: 'too many requests for now',
  untrusted_certificate: 'the certificate of its host is not trusted',
  bad_status: 'its status is not 200',
  wrong_type: 'it is no JSON Web Key Set',
  failed_before: 'it failed a moment ago, and is not tried again yet',
}

/** The most errors of a chain of causes that are looked at. */
const longestChain = 5

/** The failed fetch that an error comes from; undefined for an error of something else. */
export function findFetchProblem(error: unknown): FetchProblem | undefined {
  let at = error
  for (let depth = 0; depth < longestChain && at instanceof Error; depth += 1) {
    if (at instanceof GuardedFetchError) return describe(at)
    at = at.cause
  }
  return undefined
}

/** What is wrong, as the end of a sentence for others. */
export function describeFetch({ code, cause }: GuardedFetchError): string {
  const before = code === 'failed_before' && cause instanceof GuardedFetchError ? cause : undefined
  return before ? `${sentences[before.code]} (a moment ago)` : sentences[code]
}

function describe(error: GuardedFetchError): FetchProblem {
  const { code, message, cause } = error
  const before = code === 'failed_before' && cause instanceof GuardedFetchError ? cause : undefined
  return {
    forClient: `the keys of the client could not be fetched: ${describeFetch(error)}`,
    forOperator: `the keys of the client could not be fetched: ${before ? `${message}: ${before.message}` : message}`,
  }
}
