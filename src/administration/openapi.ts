import { z } from 'zod'
import { version } from '../config/version.ts'
import { type AdminRoute, adminRoutes } from '../http/routes.ts'
import { refusal } from './answers.ts'
import type { Answer, Operation, Operations } from './operation.ts'
import { storableJson } from './requests.ts'

type Json = Record<string, unknown>

/** Refusals that every operation can answer with, and what each is about. */
const commonRefusals: Readonly<Record<number, string>> = {
  400: 'The request is not valid',
  401: 'No token, or no proof of its key',
  403: 'The token lacks the scope',
  500: 'A defect of the server',
  503: 'The server is busy or cannot reach its database: try again after Retry-After',
}

/** Refusals of operations that take a body. */
const bodyRefusals: Readonly<Record<number, string>> = {
  413: 'The body is too long',
  415: 'The body is not application/json',
}

const otherRefusals = {
  404: 'There is no such thing',
  409: 'The name is taken, or the state does not allow it',
} as const

/**
 * The OpenAPI 3.1 document of the admin API, made of the routes and of the schemas that validate
 * their requests: it cannot say anything else than what the server does.
 */
export function createOpenapiDocument(issuer: string, operations: Operations): object {
  const paths: Record<string, Json> = {}
  for (const [operationId, route] of Object.entries<AdminRoute>(adminRoutes)) {
    const operation = operations[operationId as keyof Operations]
    const path = route.path.replace(/^\/admin/, '').replace(/:(\w+)/g, '{$1}')
    for (const method of route.methods) {
      paths[path] = {
        ...paths[path],
        [method.toLowerCase()]: described(operationId, route, operation),
      }
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Holdfast administration',
      version,
      license: { name: 'MIT', identifier: 'MIT' },
      description:
        'What the command line does, over HTTP. A client registered with administration read or write gets an access token by client_credentials with resource=ISSUER/admin and a DPoP proof; each request carries the token and a new proof (RFC 9449). A path that does not exist is 404, and a method that a path does not have is 405, with the same JSON as other refusals.',
    },
    servers: [{ url: `${issuer}/admin` }],
    paths,
    components: {
      securitySchemes: {
        dpop: {
          type: 'http',
          scheme: 'DPoP',
          description: `A DPoP-bound access token (RFC 9449) whose audience is ${issuer}/admin. There are no API keys.`,
        },
      },
      schemas: { Refusal: schemaOf(refusal), StorableJson: storableJson },
    },
  }
}

function described(
  operationId: string,
  { scope, path }: AdminRoute,
  { summary, params = {}, query, body, answer, refusals = [] }: Operation,
): Json {
  const required = [...path.matchAll(/:(\w+)/g)].map(([, name = '']) => name)
  const parameters = [
    ...required.map((name) => parameter('path', name, params[name] ?? z.string())),
    ...Object.entries(query?.shape ?? {}).map(([name, schema]) => parameter('query', name, schema)),
  ]
  const all: Readonly<Record<number, string>> = {
    ...commonRefusals,
    ...(body && bodyRefusals),
    ...Object.fromEntries(refusals.map((status) => [status, otherRefusals[status]])),
  }
  return {
    operationId,
    summary,
    security: [{ dpop: [scope] }],
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: true, content: json(schemaOf(body)) } }),
    responses: {
      [answer.status]: answered(answer),
      ...Object.fromEntries(
        Object.entries(all).map(([status, description]) => [
          status,
          {
            description,
            ...(status === '401' && { headers: { 'WWW-Authenticate': text } }),
            ...(status === '503' && { headers: { 'Retry-After': text } }),
            content: json({ $ref: '#/components/schemas/Refusal' }),
          },
        ]),
      ),
    },
  }
}

function parameter(place: 'path' | 'query', name: string, of: z.core.$ZodType): Json {
  const { description, ...schema } = schemaOf(of)
  return { name, in: place, ...(place === 'path' && { required: true }), description, schema }
}

function answered(answer: Answer): Json {
  if (answer.status === 204) return { description: 'Done' }
  const item = schemaOf(answer.schema)
  return {
    description: answer.description,
    content: json(answer.isList ? { type: 'array', items: item } : item),
  }
}

const text = { schema: { type: 'string' } }

const json = (schema: Json) => ({ 'application/json': { schema } })

/** What a schema takes, in the words of JSON Schema. */
function schemaOf(schema: z.core.$ZodType): Json {
  const { $schema: _, ...made } = z.toJSONSchema(schema, {
    io: 'input',
    override({ jsonSchema }) {
      // The format says it, and the pattern of one is longer than the rest of its document.
      if (jsonSchema.format !== undefined) delete jsonSchema.pattern
    },
  })
  return made as Json
}
