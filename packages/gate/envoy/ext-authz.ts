/**
 * Envoy's ext_authz by gRPC: what it asks becomes what every other proxy asks, and what was decided
 * becomes what it can do with the request.
 */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Asked } from '../edge.ts'
import type { Decision } from '../forward-auth.ts'
import type { Fields } from '../headers.ts'
import { Refusal } from '../refusal.ts'
import type { CheckRequest, CheckResponseSchema } from './external_auth_pb.ts'

/** Of a header field that Envoy gives the certificate in when it asks by HTTP. */
const certificateField = 'x-forwarded-client-cert'

const fieldName = /^[!#$%&'*+\-.^_`|~\da-z]+$/
const fieldValue = /^[\t -~\x80-\xff]*$/
const encodedPem = /^[\w%.~-]*$/

/**
 * Reads a check. It does NOT check who asks. Envoy has to send fields as they came
 * (`encode_raw_headers`): in the other form, two fields of one name look like one.
 *
 * @throws {@link Refusal} `asked` where something is missing, or could not have been in a request.
 */
export function readCheck({ attributes }: CheckRequest, socket: Asked['socket']): Asked {
  const http = attributes?.request?.http
  if (http?.headerMap === undefined || Object.keys(http.headers).length > 0) {
    throw new Refusal('asked', { cause: 'fields must come as they are (encode_raw_headers)' })
  }
  const { method, path: url, host } = http
  const written: Record<string, string> = { ':method': method, ':path': url, ':authority': host }
  const fields: string[] = []
  for (const { key, rawValue } of http.headerMap.headers) {
    const value = Buffer.from(rawValue).toString('latin1')
    if (key.startsWith(':')) {
      if ((written[key] ?? value) !== value) throw new Refusal('asked')
    } else if (!fieldName.test(key) || !fieldValue.test(value)) throw new Refusal('asked')
    else if (key !== certificateField) fields.push(key, value)
  }
  const { certificate = '' } = attributes?.source ?? {}
  if (!encodedPem.test(certificate)) throw new Refusal('asked')
  if (certificate !== '') fields.push(certificateField, `Cert="${certificate}"`)
  return { method, url, hosts: [host], fields, socket, protocol: '1.1' }
}

/** Of the message itself, or written by Envoy: it does not let clients write them. */
const ofEnvoy =
  /^(?:host|content-length|transfer-encoding|connection|upgrade|te|x-forwarded-for|x-forwarded-proto|x-request-id|x-envoy-.*)$/

/** OVERWRITE_IF_EXISTS_OR_ADD */
const overwrite = 2

/** The codes of google.rpc.Code. */
const codes = { ok: 0, permissionDenied: 7 } as const

/** What Envoy is answered about a request with these fields. */
export function checkResponse(
  decision: Decision,
  asked: Fields,
): MessageInitShape<typeof CheckResponseSchema> {
  if (decision.kind === 'answer') {
    const { status: code, fields, body } = decision.answer
    return {
      status: { code: codes.permissionDenied },
      httpResponse: {
        case: 'deniedResponse',
        value: { status: { code }, headers: optionsOf(fields), body },
      },
    }
  }
  const { fields, kept, answerFields } = decision
  return {
    status: { code: codes.ok },
    httpResponse: {
      case: 'okResponse',
      value: {
        headers: optionsOf(fields),
        headersToRemove: removedFrom(asked, kept),
        responseHeadersToAdd: optionsOf(answerFields),
      },
    },
  }
}

/** Fields that the application must not get: all that do not pass the gate when it is the proxy. */
function removedFrom(asked: Fields, kept: Fields): string[] {
  const namesOf = (fields: Fields) =>
    new Set(fields.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase()))
  const stay = namesOf(kept)
  return [...namesOf(asked)].filter((name) => !stay.has(name) && !ofEnvoy.test(name))
}

function optionsOf(fields: Fields) {
  return fields.flatMap((value, at) =>
    at % 2 === 0
      ? [
          {
            header: { key: value.toLowerCase(), value: fields[at + 1] ?? '' },
            appendAction: overwrite,
          },
        ]
      : [],
  )
}
