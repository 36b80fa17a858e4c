/** What every adapter does with a request: admit it, or know the whole answer. */
import { VerifyError } from './errors.ts'
import { checkNames, optionalFunction, optionalMethods } from './lib/check.ts'
import { ClientCertificateError } from './lib/client-certificate-error.ts'
import { pathOf } from './lib/public-uri.ts'
import { TokenBindingError } from './lib/token-binding-error.ts'
import type { Requirements } from './requirements.ts'
import type { Verified, Verifier, VerifyRequest } from './verifier.ts'

/** A response, for an adapter to write in its framework's way. */
export type Answer = Readonly<{
  status: number
  headers: Readonly<Record<string, string | string[]>>
  /** JSON. */
  body: string
}>

/**
 * Either the answer to give, or permission to continue. `auth` is missing only in observe mode, when the
 * request would have been refused.
 */
export type Admission =
  | Readonly<{ answer: Answer }>
  | Readonly<{ answer?: undefined; auth: Verified | undefined }>

/**
 * What an adapter is made with.
 *
 * @throws TypeError for options in the place of the verifier, and for unknown ones.
 */
export function checkAdapter(
  verifier: unknown,
  options: object,
  more: readonly string[] = [],
): void {
  const methods = ['verify', 'checkRequirements', 'refuse']
  if (verifier === undefined) throw new TypeError('a verifier is needed')
  optionalMethods('verifier', verifier, methods)
  checkNames('options', options, new Set(['facts', ...more]))
  for (const [name, value] of Object.entries(options)) optionalFunction(name, value)
}

/** Facts about a request that only the application knows; they go before what an adapter found. */
export type Facts = Partial<Pick<VerifyRequest, 'certificate' | 'tokenBinding' | 'body' | 'url'>>

/**
 * Verifies a request with what the application knows of it, and answers one for the resource's
 * metadata (RFC 9728 section 3).
 */
export async function admit(
  verifier: Verifier,
  request: VerifyRequest,
  findFacts: () => Facts | Promise<Facts> | undefined,
): Promise<Admission> {
  const { metadata } = verifier
  const reads = request.method === 'GET' || request.method === 'HEAD'
  if (metadata !== undefined && reads && pathOf(request.url) === metadata.path) {
    const headers = { 'Content-Type': 'application/json', 'Access-Control-Allow-Origin': '*' }
    return { answer: { status: 200, headers, body: JSON.stringify(metadata.document) } }
  }
  return admitted(verifier, async () => {
    let facts: Facts | undefined
    try {
      facts = await findFacts()
    } catch (error) {
      if (!isPeersMistake(error)) throw error
      const message = 'Forwarded certificate or Token Binding is not accepted'
      throw verifier.refuse(new VerifyError('facts_refused', message, { cause: error }))
    }
    return verifier.verify({ ...request, ...facts })
  })
}

/** What the readers of forwarded facts throw at spoofed and malformed ones. */
function isPeersMistake(error: unknown): boolean {
  return error instanceof ClientCertificateError || error instanceof TokenBindingError
}

/** Checks what a route asks for of a request that was admitted before. */
export function admitFurther(
  verifier: Verifier,
  auth: Verified | undefined,
  requirements: Requirements,
): Promise<Admission> {
  return admitted(verifier, async () => {
    if (auth !== undefined) verifier.checkRequirements(auth, requirements)
    else if (verifier.mode === 'enforce') {
      throw new TypeError('requirements are checked before the request was verified')
    }
    return auth
  })
}

async function admitted(
  verifier: Verifier,
  attempt: () => Promise<Verified | undefined>,
): Promise<Admission> {
  try {
    return { auth: await attempt() }
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error
    return verifier.mode === 'observe' ? { auth: undefined } : { answer: answerTo(error) }
  }
}

/** The response to a refused request. */
export function answerTo(error: VerifyError): Answer {
  const { status, challenges, dpopNonce, message } = error
  return {
    status,
    headers: {
      'Content-Type': 'application/json',
      'Cache-Control': 'no-store',
      // RFC 9449 sections 7.1 and 8: scripts of other origins need these to try again.
      'Access-Control-Expose-Headers': 'WWW-Authenticate, DPoP-Nonce',
      ...(challenges.length > 0 && { 'WWW-Authenticate': [...challenges] }),
      ...(dpopNonce !== undefined && { 'DPoP-Nonce': dpopNonce }),
    },
    body: JSON.stringify({ error: bodyError(error), error_description: message }),
  }
}

/** The answer as a fetch `Response`. */
export function toResponse({ status, headers, body }: Answer): Response {
  const list = new Headers()
  for (const [name, value] of Object.entries(headers)) {
    for (const each of [value].flat()) list.append(name, each)
  }
  return new Response(status === 204 ? null : body, { status, headers: list })
}

/**
 * The error of a body is there in every refusal. Where no credentials came, or the resource cannot
 * decide, challenges carry none (RFC 6750 section 3.1).
 */
function bodyError({ error, status }: VerifyError): string {
  if (error !== undefined) return error
  if (status === 503) return 'temporarily_unavailable'
  return status === 401 ? 'invalid_token' : 'invalid_request'
}
