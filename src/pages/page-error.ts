export type PageErrorCode =
  | 'client_certificate_too_large'
  | 'cross_site_request'
  | 'expired_interaction'
  | 'expired_link'
  | 'form_too_large'
  | 'invalid_client_certificate_header'
  | 'invalid_form'
  | 'invalid_request'
  | 'sign_in_first'
  | 'invalid_token_binding'
  | 'malformed_target'
  | 'method_not_allowed'
  | 'origin_too_long'
  | 'too_many_requests'
  | 'unsupported_prompt'

const statusOf: Record<PageErrorCode, number> = {
  // RFC 9440 section 3.2.
  client_certificate_too_large: 431,
  cross_site_request: 403,
  expired_interaction: 400,
  expired_link: 404,
  form_too_large: 413,
  invalid_client_certificate_header: 400,
  invalid_form: 400,
  invalid_request: 400,
  sign_in_first: 401,
  invalid_token_binding: 400,
  malformed_target: 400,
  method_not_allowed: 405,
  origin_too_long: 400,
  too_many_requests: 429,
  unsupported_prompt: 501,
}

/** Ends a request in a page that says why; the message is for the log. */
export class PageError extends Error {
  override name = 'PageError'
  code: PageErrorCode
  status: number

  constructor(code: PageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.status = statusOf[code]
  }
}
