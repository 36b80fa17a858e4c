import type { IncomingMessage } from 'node:http'
import getRawBody from 'raw-body'
import { PageError } from '../pages/page-error.ts'

const limitBytes = 16 * 1024

export type FormBody = ReadonlyMap<string, string>

/** Structural, so that any koa context fits. */
export interface FormRequest {
  req: IncomingMessage
  is(type: string): string | false | null
}

export async function readForm(request: FormRequest): Promise<FormBody> {
  if (!request.is('application/x-www-form-urlencoded')) {
    throw new PageError('invalid_form', 'Expected application/x-www-form-urlencoded')
  }
  const form = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(await readText(request.req))) {
    // Which of two values counts is a question no two programs answer alike.
    if (form.has(name)) throw new PageError('invalid_form', `Expected one ${JSON.stringify(name)}`)
    form.set(name, value)
  }
  return form
}

async function readText(req: IncomingMessage): Promise<string> {
  try {
    return await getRawBody(req, { limit: limitBytes, encoding: 'utf-8' })
  } catch (cause) {
    throw (cause as { type?: string }).type === 'entity.too.large'
      ? new PageError('form_too_large', `Expected at most ${limitBytes} bytes`, { cause })
      : new PageError('invalid_form', 'Expected a whole body', { cause })
  }
}
