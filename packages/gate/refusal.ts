/** Every way in which the gate itself refuses a request; `@holdfast/verify` has others. */
const refusals = {
  target: [400, 'The request target is malformed'],
  version: [505, 'The gate speaks HTTP/1.1, and HTTP/2 over TLS'],
  method: [400, 'The method is not supported'],
  host: [400, 'The request must have one Host'],
  asked: [400, 'The proxy must name one method, host and URI'],
  not_routed: [404, 'The proxy must send this path to the gate itself'],
  peer: [403, 'Only a trusted proxy can ask this gate'],
  unknown_host: [421, 'This gate does not serve that host'],
  repeated_field: [400, 'A header field that must appear once was sent twice'],
  too_many_fields: [431, 'The request has too many header fields, or too large ones'],
  facts: [400, 'Forwarded certificate or Token Binding is not accepted'],
  path_control: [400, 'The path has control characters'],
  path_dots: [400, 'The path has dot segments'],
  path_encoded_slash: [400, 'The path has an encoded slash'],
  path_double_slash: [400, 'The path has an empty segment'],
  path_semicolon: [400, 'The path has a semicolon'],
  path_ambiguous: [400, 'The path can be read in two ways to which different rules apply'],
  body_too_large: [413, 'The body is larger than this gate signs'],
  body_malformed: [400, 'The body ended early or is malformed'],
  form_too_large: [
    413,
    'Your session has ended, and this form is too large to be kept. Copy it, sign in in another tab, and send it again',
  ],
  cross_origin: [403, 'A page of another site sent this request'],
  groups: [403, 'The person is in none of the groups that this needs'],
  session_ended: [401, 'The session has ended'],
  token_unavailable: [503, 'There is no access token for the application at the moment'],
  identity_too_large: [403, 'The access token has more claims than this gate forwards'],
  client_gone: [400, 'The client did not wait for the answer'],
  sessions_unavailable: [503, 'Sessions cannot be looked up now'],
  busy: [503, 'The gate has too many requests at once'],
  upstream_unavailable: [502, 'The application cannot be reached'],
  upstream_timeout: [504, 'The application did not answer in time'],
  internal: [500, 'The gate could not handle the request'],
} as const satisfies Record<string, readonly [number, string]>

/** Why a request was refused: few enough for metric labels. */
export type RefusalCode = keyof typeof refusals

/** All codes, for counters that start at zero. */
export const refusalCodes = Object.freeze(Object.keys(refusals) as RefusalCode[])

/** A request that does not pass. The message is for the client; `cause` is for the log. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: RefusalCode
  readonly status: number

  constructor(code: RefusalCode, { cause }: { cause?: unknown } = {}) {
    const [status, message] = refusals[code]
    super(message, cause === undefined ? {} : { cause })
    this.code = code
    this.status = status
  }
}
