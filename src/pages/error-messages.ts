import { type ErrorOut, errors } from 'oidc-provider'
import type { PageErrorCode } from './page-error.ts'

export interface ErrorWords {
  heading: string
  sentence: string
  code: string
  /** What a developer of the client needs to know. */
  detail?: string
  /** Where to go on, below the path of this server. */
  link?: { readonly href: string; readonly words: string }
}

const words = (code: string, heading: string, sentence: string): ErrorWords =>
  Object.freeze({ code, heading, sentence })

const PAGES: Record<PageErrorCode, ErrorWords> = {
  client_certificate_too_large: words(
    'invalid_request',
    'This certificate is too large',
    'The header that carries the client certificate is longer than any certificate in use.',
  ),
  cross_site_request: words(
    'cross_site_request',
    'This form came from another site',
    'Nothing was done. Only send a form that you see on this site.',
  ),
  expired_interaction: words(
    'expired_interaction',
    'This page is out of date',
    'It has expired or was finished already, or you have switched accounts since. Go back to the app and start again.',
  ),
  form_too_large: words(
    'form_too_large',
    'This form is too large',
    'It holds more than this page can send. Go back to the app and start again.',
  ),
  invalid_client_certificate_header: words(
    'invalid_request',
    'A header of this request is for proxies only',
    'A client certificate came in a header, and not from a proxy of this server or not as one sends it.',
  ),
  invalid_form: words(
    'invalid_form',
    'This form could not be read',
    'It is damaged or was not made by this page. Go back to the app and start again.',
  ),
  invalid_request: words(
    'invalid_request',
    'This request contradicts itself',
    'It has a header twice that may be there once. Nothing was done.',
  ),
  sign_in_first: {
    ...words('sign_in_first', 'You are not signed in here', 'Nothing was done.'),
    link: { href: '/security', words: 'Sign in to see this page' },
  },
  invalid_token_binding: words(
    'invalid_request',
    'This connection could not be checked',
    'What the request says of its Token Binding is broken, or is for proxies only to say.',
  ),
  malformed_target: words(
    'invalid_request',
    'This address is not valid',
    'The request names no path of this server. Check the address.',
  ),
  origin_too_long: words(
    'invalid_request',
    'The request is not valid',
    'Its Origin header is longer than any origin.',
  ),
  unsupported_prompt: words(
    'unsupported_prompt',
    'This request is not supported',
    'The app asks for something that this server has no page for. Nothing was granted.',
  ),
}

export const NOT_FOUND = words(
  'not_found',
  'There is no such page',
  'Check the address, or go back to the app you came from.',
)

export const SERVER_ERROR = words(
  'server_error',
  'Something broke on our side',
  'Nothing was granted. Try again; if it happens once more, tell your operator the request number below.',
)

export const UNAVAILABLE = words(
  'temporarily_unavailable',
  'Please try again in a moment',
  'The server cannot reach its database. Nothing was granted, and nothing was lost.',
)

export const OVERLOADED = words(
  'temporarily_unavailable',
  'Please try again in a moment',
  'The server is too busy. Nothing was granted, and nothing was lost.',
)

export function pageErrorWords(code: PageErrorCode): ErrorWords {
  return PAGES[code]
}

export function oauthErrorWords(out: ErrorOut, error: Error): ErrorWords {
  if (error instanceof errors.SessionNotFound) return PAGES.expired_interaction
  if (out.error === 'server_error') return SERVER_ERROR
  if (out.error === UNAVAILABLE.code) return UNAVAILABLE
  return {
    code: out.error,
    heading: 'The app sent a request that does not fit',
    sentence:
      'You did nothing wrong, and nothing was granted. Go back to the app; its developers can use the lines below.',
    ...(out.error_description ? { detail: out.error_description } : {}),
  }
}
