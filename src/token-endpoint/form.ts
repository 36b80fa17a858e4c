import type { IncomingMessage } from 'node:http'
import { parse } from 'node:querystring'
import getRawBody from 'raw-body'
import { type Refusal, refuse } from './refusal.ts'

/** As much as the engine takes at its endpoints. */
const limitBytes = 56 * 1024

/** The parameters of a form, by name: an array for those that came several times. */
export type Form = Readonly<Record<string, string | readonly string[] | undefined>>

/** Reads a form (RFC 6749 appendix B). */
export async function readForm(req: IncomingMessage): Promise<Form | Refusal> {
  const type = req.headers['content-type']
  if (type === undefined) return {}
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(type)) return refuse('body_type')
  try {
    const length = req.headers['content-length']
    const body = await getRawBody(req, {
      limit: limitBytes,
      ...(length !== undefined && { length }),
    })
    return parse(body.toString())
  } catch {
    return refuse('body_unreadable')
  }
}

export interface Parameters {
  readonly params: Readonly<Record<string, string | undefined>>
  readonly resources: readonly string[]
}

/**
 * Those parameters of a form that a request may have. A parameter without a value counts as left out,
 * and one that comes twice is refused (RFC 6749 section 3.2), but for `resource` (RFC 8707).
 */
export function takeParameters(form: Form, names: readonly string[]): Parameters | Refusal {
  const params: Record<string, string | undefined> = {}
  for (const name of names) {
    const value = form[name]
    if (Array.isArray(value)) {
      const description = `'${name}' parameter must not be provided twice`
      return refuse('parameter_twice', { description })
    }
    if (value) params[name] = value as string
  }
  return { params, resources: resourcesOf(form) }
}

function resourcesOf({ resource }: Form): readonly string[] {
  return resource ? [resource].flat().filter((value) => value !== '') : []
}

/** Refuses a request that leaves out what its grant needs. */
export function missingParameters(
  { params }: Parameters,
  required: readonly string[],
): Refusal | undefined {
  const missing = required.filter((name) => params[name] === undefined)
  if (missing.length === 0) return undefined
  const names = missing.map((name) => `'${name}'`)
  const listed = new Intl.ListFormat('en', { type: 'conjunction' }).format(names)
  const description = `missing required parameter${missing.length > 1 ? 's' : ''} ${listed}`
  return refuse('parameter_missing', { description })
}
