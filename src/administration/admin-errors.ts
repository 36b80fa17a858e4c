import type { Middleware } from 'koa'
import { ZodError } from 'zod'
import { AccountError, type AccountErrorCode } from '../accounts/account-error.ts'
import { RegistrationError, type RegistrationErrorCode } from '../clients/client-registration.ts'
import { JsonBodyError } from '../http/json-body.ts'
import { AdministrationError, type AdministrationErrorCode } from './administration-error.ts'

type Code = AccountErrorCode | AdministrationErrorCode | RegistrationErrorCode

const statuses: Record<Code, 400 | 404 | 409> = {
  account_not_found: 404,
  already_exists: 409,
  client_id_taken: 409,
  conflict: 409,
  email_taken: 409,
  invalid_client_metadata: 400,
  invalid_email: 400,
  invalid_name: 400,
  invalid_password_hash: 400,
  invalid_profile: 400,
  invalid_redirect_uri: 400,
  invalid_request: 400,
  invalid_username: 400,
  not_found: 404,
  password_guessable: 400,
  password_too_long: 400,
  password_too_short: 400,
  unapproved_software_statement: 400,
  username_taken: 409,
}

/** The one place where errors of administration become answers. */
export function answerAdminErrors(): Middleware {
  return async (ctx, next) => {
    ctx.set('cache-control', 'no-store')
    try {
      await next()
    } catch (error) {
      const { code, message } = known(error)
      ctx.status = error instanceof JsonBodyError ? error.status : statuses[code]
      ctx.body = { error: code, error_description: message }
    }
  }
}

/** Of a request that is wrong in many places, this many are named. */
const mostProblems = 20

/**
 * Everything that a schema finds wrong, as one sentence.
 *
 * @param whole what the schema is of.
 */
export function problemsIn({ issues }: Pick<ZodError, 'issues'>, whole = 'The request'): string {
  const problems = issues.slice(0, mostProblems).map(({ path, message }) => {
    const where = path.length > 0 ? path.join('.') : whole
    return `${where}: ${message}`
  })
  return `${problems.join('; ')}.`
}

function known(error: unknown): { code: Code; message: string } {
  if (
    error instanceof AccountError ||
    error instanceof AdministrationError ||
    error instanceof RegistrationError
  ) {
    return error
  }
  if (error instanceof JsonBodyError) return { code: 'invalid_request', message: error.message }
  if (error instanceof ZodError) {
    return { code: 'invalid_request', message: problemsIn(error) }
  }
  throw error
}
