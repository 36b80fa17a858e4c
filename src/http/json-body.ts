import type { IncomingMessage } from 'node:http'
import getRawBody from 'raw-body'

/** Structural, so that any koa context fits. */
export interface JsonRequest {
  req: IncomingMessage
  is(type: string): string | false | null
}

/** The body of a request is not what it must be. The message is a sentence. */
export class JsonBodyError extends Error {
  override name = 'JsonBodyError'
}

const limit = 64 * 1024

/**
 * The JSON body of a request.
 *
 * @throws {@link JsonBodyError}
 */
export async function readJson(request: JsonRequest): Promise<unknown> {
  if (!request.is('application/json')) throw new JsonBodyError('Expected application/json.')
  try {
    return JSON.parse(await getRawBody(request.req, { limit, encoding: 'utf-8' }))
  } catch (cause) {
    throw new JsonBodyError(`Expected JSON of at most ${limit} bytes.`, { cause })
  }
}
