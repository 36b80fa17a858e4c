/** Plain `node:http`, `node:https` and the compatibility API of `node:http2`. */
import { type Answer, admit, admitFurther, checkAdapter, type Facts } from './answer.ts'
import { socketCertificate } from './client-certificate.ts'
import type { RequestBody } from './credentials.ts'
import { checkRequirements, type Requirements } from './requirements.ts'
import type { Verified, Verifier, VerifyRequest } from './verifier.ts'

/** What is needed of an `IncomingMessage`, and of the requests frameworks make of it. */
export type NodeRequest = Readonly<{
  method?: string | undefined
  url?: string | undefined
  /** Where express and connect keep the whole target when a router is mounted. */
  originalUrl?: string | undefined
  rawHeaders: readonly string[]
  socket: object
  body?: unknown
}>

/** What is needed of a `ServerResponse`. */
export type NodeResponse = {
  statusCode: number
  setHeader(name: string, value: string | readonly string[]): unknown
  end(body: string): unknown
  readonly headersSent?: boolean
  readonly writableEnded?: boolean
  /** Of HTTP/2. */
  readonly stream?: { destroy(): unknown }
  getHeaderNames?(): string[]
  removeHeader?(name: string): unknown
  destroy?(): unknown
}

/** Options of `nodeVerify`. */
export type NodeVerifyOptions<R> = AdapterOptions<R> &
  Readonly<{
    /** Told of each error that is answered with 500, such as one that a handler has thrown. */
    onError?: (error: unknown) => void
  }>

/** Options of the adapters for requests of type `R`. */
export type AdapterOptions<R> = Readonly<{
  /** Facts that only the application knows, such as a verified Token Binding. */
  facts?: (request: R) => Facts | Promise<Facts>
}>

/**
 * Reads a Node request as plain data.
 *
 * The certificate is the one of this very TLS connection; a header is never taken for one. A body
 * is looked at only if something has parsed it before.
 */
export function nodeRequest(request: NodeRequest): VerifyRequest {
  const certificate = socketCertificate(request.socket)
  const { body } = request
  return {
    method: request.method ?? '',
    url: request.originalUrl ?? request.url ?? '',
    headers: request.rawHeaders,
    ...(certificate && { certificate }),
    ...(isBody(body) && { body }),
  }
}

/** Writes an answer; `response` has not been written to. */
export function writeAnswer(response: NodeResponse, { status, headers, body }: Answer): void {
  response.statusCode = status
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  response.end(body)
}

/**
 * Answers for an error that is no refusal: 500 without a reason. Where the response has
 * begun, its connection ends, for a client must not take the part that it has for the whole.
 */
function writeFailure(response: NodeResponse): void {
  if (response.writableEnded) return
  if (!response.headersSent) {
    try {
      for (const name of response.getHeaderNames?.() ?? []) response.removeHeader?.(name)
      const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }
      writeAnswer(response, { status: 500, headers, body: '{"error":"server_error"}' })
      return
    } catch {}
  }
  cutOff(response)
}

function cutOff(response: NodeResponse): void {
  if (response.stream !== undefined) response.stream.destroy()
  else response.destroy?.()
}

/** Adds the header fields an admitted request's response should have. */
export function writeHeaders(response: NodeResponse, auth: Verified | undefined): void {
  if (auth === undefined) return
  for (const [name, value] of Object.entries(auth.responseHeaders)) response.setHeader(name, value)
}

/**
 * Makes a wrapper for request listeners that lets only verified requests through.
 *
 * Nobody waits for the promise of a listener, and an unhandled rejection ends the process: so none
 * rejects. Whatever else goes wrong, in `facts` or in the handler, is answered with 500.
 *
 * @example
 * ```ts
 * const protect = nodeVerify(createVerifier({ issuer, audience }))
 * createServer(protect((request, response, auth) => response.end(`hello ${auth.claims.sub}`)))
 * ```
 */
export function nodeVerify<Req extends NodeRequest, Res extends NodeResponse>(
  verifier: Verifier,
  options: NodeVerifyOptions<Req> = {},
) {
  checkAdapter(verifier, options, ['onError'])
  return (
    handler: (request: Req, response: Res, auth: Verified) => unknown,
    requirements: Requirements = {},
  ) => {
    if (typeof handler !== 'function') throw new TypeError('handler must be a function')
    checkRequirements(requirements)
    async function listen(request: Req, response: Res): Promise<void> {
      const admission = await admit(verifier, nodeRequest(request), () => options.facts?.(request))
      const further = admission.answer
        ? admission
        : await admitFurther(verifier, admission.auth, requirements)
      if (further.answer !== undefined) return writeAnswer(response, further.answer)
      writeHeaders(response, further.auth)
      await handler(request, response, further.auth as Verified)
    }

    return async (request: Req, response: Res): Promise<void> => {
      try {
        await listen(request, response)
      } catch (error) {
        writeFailure(response)
        try {
          options.onError?.(error)
        } catch {}
      }
    }
  }
}

function isBody(body: unknown): body is RequestBody {
  return typeof body === 'string' || (typeof body === 'object' && body !== null)
}
