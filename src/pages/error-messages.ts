import { type ErrorOut, errors } from 'oidc-provider'
import type { MessageKey } from './messages.ts'
import type { PageErrorCode } from './page-error.ts'

/** What an error page says, and the `error` of the same answer in JSON. */
export interface ErrorMessage {
  readonly code: string
  readonly heading: MessageKey
  readonly sentence: MessageKey
  /** What a developer of the client needs to know. */
  readonly detail?: string
  /** Where to continue, below the path of this server. */
  readonly link?: { readonly href: string; readonly label: MessageKey }
}

const pageCodes: Partial<Record<PageErrorCode, string>> = {
  client_certificate_too_large: 'invalid_request',
  invalid_client_certificate_header: 'invalid_request',
  invalid_token_binding: 'invalid_request',
  malformed_target: 'invalid_request',
  method_not_allowed: 'invalid_request',
  origin_too_long: 'invalid_request',
  too_many_requests: 'temporarily_unavailable',
}

function message(
  code: string,
  name: PageErrorCode | 'not_found' | 'server_error' | 'unavailable' | 'overloaded' | 'client',
): ErrorMessage {
  return { code, heading: `error.${name}.heading`, sentence: `error.${name}.sentence` }
}

export const notFound = message('not_found', 'not_found')
export const serverError = message('server_error', 'server_error')
export const unavailable = message('temporarily_unavailable', 'unavailable')
export const overloaded = message('temporarily_unavailable', 'overloaded')

export function pageErrorMessage(name: PageErrorCode): ErrorMessage {
  const found = message(pageCodes[name] ?? name, name)
  if (name !== 'sign_in_first') return found
  return { ...found, link: { href: '/security', label: 'error.sign_in_first.link' } }
}

/** For an error of oidc-provider. */
export function oauthErrorMessage(out: ErrorOut, error: Error): ErrorMessage {
  if (error instanceof errors.SessionNotFound) return pageErrorMessage('expired_interaction')
  if (out.error === serverError.code) return serverError
  if (out.error === unavailable.code) return unavailable
  const found = message(out.error, 'client')
  return out.error_description ? { ...found, detail: out.error_description } : found
}
