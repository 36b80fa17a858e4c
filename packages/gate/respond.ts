/** How the gate itself answers a request, read to its end or not. */
import { VerifyError } from '@holdfast/verify'
import { announcedLength } from './body.ts'
import type { Answer } from './browser/answers.ts'
import type { InboundRequest, InboundResponse } from './exchange.ts'
import { type ProxyKind, statusFor } from './forward-auth.ts'
import type { Refusal } from './refusal.ts'

/** Writes an answer of the gate itself. A body that was not read ends a connection of HTTP/1.1. */
export function write(request: InboundRequest, response: InboundResponse, answer: Answer): void {
  const { status, fields, body } = answer
  const isUnread =
    request.httpVersionMajor === 1 && !request.complete && announcedLength(request.rawHeaders) !== 0
  const length = ['Content-Length', String(Buffer.byteLength(body))]
  response.writeHead(status, [...fields, ...length, ...(isUnread ? ['Connection', 'close'] : [])])
  if (request.method !== 'HEAD' && body !== '') response.write(body)
  if (isUnread && request.headers.expect === undefined) endAfterBody(request, response)
  else response.end()
}

/** What a request is answered that does not pass; `proxy` is the kind of the one that asks. */
export function refusalAnswer(
  refusal: VerifyError | Refusal,
  proxy: ProxyKind | undefined,
): Answer {
  const status = proxy === undefined ? refusal.status : statusFor(proxy, refusal.status)
  const isVerify = refusal instanceof VerifyError
  const error = isVerify ? (refusal.error ?? 'invalid_token') : refusal.code
  const fields = ['Content-Type', 'application/json', 'Cache-Control', 'no-store']
  if (isVerify) {
    fields.push('Access-Control-Expose-Headers', 'WWW-Authenticate, DPoP-Nonce')
    const { challenges } = refusal
    // nginx before 1.23.0 passes on one field only.
    const shown =
      proxy === undefined || challenges.length === 0 ? challenges : [challenges.join(', ')]
    fields.push(...shown.flatMap((each) => ['WWW-Authenticate', each]))
    if (refusal.dpopNonce !== undefined) fields.push('DPoP-Nonce', refusal.dpopNonce)
  }
  if (status === 503) fields.push('Retry-After', '1')
  return { status, fields, body: JSON.stringify({ error, error_description: refusal.message }) }
}

/** Answers a request that does not pass. What has begun to be answered is cut off. */
export function refuse(
  request: InboundRequest,
  response: InboundResponse,
  refusal: VerifyError | Refusal,
): void {
  if (response.headersSent) response.destroy()
  else write(request, response, refusalAnswer(refusal, undefined))
}

/** A client that is cut off while it sends can miss the answer: so much of a body is read first. */
const lingering = { bytes: 1_048_576, milliseconds: 1000 }

function endAfterBody(request: InboundRequest, response: InboundResponse): void {
  let left = lingering.bytes
  const end = () => {
    clearTimeout(timer)
    request.off('data', count)
    response.end()
  }
  const count = (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) end()
  }
  const timer = setTimeout(end, lingering.milliseconds)
  request.on('error', end).once('end', end).once('close', end).on('data', count)
}
