import type { z } from 'zod'
import type { AdminRouteName } from '../http/routes.ts'
import type { Administration } from './administration.ts'

/** What a handler is given: everything that its schemas have accepted, and nothing else. */
export interface Input<Parameter extends string, Body, Query> {
  readonly params: Readonly<Record<Parameter, string>>
  readonly body: Body
  readonly query: Query
}

/** What a request gets that is accepted. */
export type Answer =
  | { readonly status: 204 }
  | {
      readonly status: 200 | 201
      readonly description: string
      /** Of the body, or of each item of a list. */
      readonly schema: z.ZodType
      readonly isList?: boolean
    }

/**
 * One operation of the admin API: the schemas that its requests are validated by are those that the
 * OpenAPI document shows. Where it is found, and the scope that it needs, is in `adminRoutes`.
 */
export interface Operation<
  Parameter extends string = string,
  Body extends z.ZodType = z.ZodType,
  Query extends z.ZodObject = z.ZodObject,
> {
  readonly summary: string
  /** Of each parameter of the path. */
  readonly params?: Readonly<Record<Parameter, z.ZodString>>
  readonly body?: Body
  readonly query?: Query
  readonly answer: Answer
  /** Refusals beyond those that any operation may answer with. */
  readonly refusals?: readonly (404 | 409)[]
  handle(
    administration: Administration,
    input: Input<Parameter, z.output<Body>, z.output<Query>>,
    document: () => object,
  ): Promise<unknown>
}

export type Operations = Readonly<Record<AdminRouteName, Operation>>

/** Types the input of a handler by the schemas beside it. */
export function operation<
  Parameter extends string,
  Body extends z.ZodType,
  Query extends z.ZodObject,
>(made: Operation<Parameter, Body, Query>): Operation {
  return made as unknown as Operation
}
