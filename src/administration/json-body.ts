import type { IncomingMessage } from 'node:http'
import getRawBody from 'raw-body'
import type { z } from 'zod'
import { AdministrationError } from './administration-error.ts'

/** Structural, so that any koa context fits. */
export interface JsonRequest {
  req: IncomingMessage
  is(type: string): string | false | null
}

const limit = 64 * 1024

/**
 * The JSON body of a request, as a schema describes it.
 *
 * @throws AdministrationError `invalid_request`, or the schema's error.
 */
export async function readJson<Schema extends z.ZodType>(
  request: JsonRequest,
  schema: Schema,
): Promise<z.output<Schema>> {
  if (!request.is('application/json')) {
    throw new AdministrationError('invalid_request', 'Expected application/json.')
  }
  return schema.parse(await readValue(request))
}

async function readValue({ req }: JsonRequest): Promise<unknown> {
  try {
    return JSON.parse(await getRawBody(req, { limit, encoding: 'utf-8' }))
  } catch (cause) {
    throw new AdministrationError('invalid_request', `Expected JSON of at most ${limit} bytes.`, {
      cause,
    })
  }
}
