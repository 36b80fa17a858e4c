import type { IncomingMessage } from 'node:http'
import { maxJsonDepth, parseJson } from '@holdfast/verify/authorization-server'
import getRawBody from 'raw-body'

/** Structural, so that any koa context fits. */
export interface JsonRequest {
  req: IncomingMessage
  is(type: string): string | false | null
}

/** The body of a request is not what it must be. The message is a sentence. */
export class JsonBodyError extends Error {
  override name = 'JsonBodyError'
  readonly status: 400 | 413 | 415

  constructor(message: string, status: 400 | 413 | 415 = 400, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

const limit = 64 * 1024

/**
 * The JSON body of a request. As in tokens, an object that names a member twice is refused: a proxy
 * that filters by the first one and a server that reads the last one disagree.
 *
 * @throws {@link JsonBodyError}
 */
export async function readJson(request: JsonRequest): Promise<unknown> {
  if (!request.is('application/json')) throw new JsonBodyError('Expected application/json.', 415)
  let bytes: Buffer
  try {
    bytes = await getRawBody(request.req, { limit })
  } catch (cause) {
    const isTooLarge = (cause as { type?: string }).type === 'entity.too.large'
    throw isTooLarge
      ? new JsonBodyError(`Expected JSON of at most ${limit} bytes.`, 413, { cause })
      : new JsonBodyError('Expected a whole body.', 400, { cause })
  }
  const value = parseJson(bytes, limit)
  if (value === undefined) {
    throw new JsonBodyError(
      `Expected JSON that names each member once, at most ${maxJsonDepth} levels deep.`,
    )
  }
  return value
}
