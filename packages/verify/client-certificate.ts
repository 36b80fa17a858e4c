/** The certificate of a TLS client: from this connection, or from the proxy that terminated it. */
import { hash, X509Certificate } from 'node:crypto'
import { headerValues, type RequestHeaders } from './credentials.ts'
import {
  type CertificateDecoder,
  decodeBase64,
  decodeByteSequence,
  decodeByteSequenceList,
  decodeEscapedPem,
  decodeXfcc,
} from './lib/certificate-formats.ts'
import { checkNames, checkUntrusted, flag, namesOf } from './lib/check.ts'
import { ClientCertificateError } from './lib/client-certificate-error.ts'
import { RecentMap } from './lib/recent-map.ts'

export {
  ClientCertificateError,
  type ClientCertificateErrorCode,
} from './lib/client-certificate-error.ts'

/** A certificate whose private key the client has proven to hold, in a TLS handshake. */
export type ClientCertificate = Readonly<{
  /** The certificate, parsed; `raw` is its DER. */
  certificate: X509Certificate
  /** `x5t#S256` (RFC 8705 section 3.1): base64url SHA-256 of the DER. */
  thumbprint: string
  /** What the client sent beside it, in TLS order. Nothing about these is verified. */
  chain: readonly X509Certificate[]
}>

/** How a proxy writes the certificate; see docs/mtls.md for the configuration of each. */
export type CertificateHeaderFormat = 'rfc9440' | 'nginx' | 'haproxy' | 'envoy' | 'aws-alb'

type Format = Readonly<{ field: string; decode: CertificateDecoder; chainField?: string }>

const formats: Readonly<Record<CertificateHeaderFormat, Format>> = Object.freeze({
  rfc9440: {
    field: 'client-cert',
    decode: decodeByteSequence,
    chainField: 'client-cert-chain',
  },
  nginx: { field: 'x-ssl-cert', decode: decodeEscapedPem },
  haproxy: { field: 'x-ssl-client-der', decode: decodeBase64 },
  envoy: { field: 'x-forwarded-client-cert', decode: decodeXfcc },
  'aws-alb': { field: 'x-amzn-mtls-clientcert-leaf', decode: decodeEscapedPem },
})

/** The formats by name, for those who read a configuration. */
export const certificateHeaderFormats = Object.freeze(
  Object.keys(formats) as CertificateHeaderFormat[],
)

/** The certificate is at most 8 KiB as text, and a chain twice that: RSA-4096 with room to spare. */
const longestCertificate = 8 * 1024
const longestChain = 16 * 1024
const mostCertificates = 8

export type ForwardedCertificateOptions = Readonly<{
  /** Whether the peer of this request is a proxy that was configured by the operator. */
  trusted: boolean
  /**
   * What to do with the header of anyone else: `'refuse'` (the default) answers an attack with an
   * error, `'ignore'` reads the request as if it were not there.
   */
  untrusted?: 'refuse' | 'ignore'
  format: CertificateHeaderFormat
  /** The header field's name, where the proxy's configuration uses another than the usual one. */
  header?: string | undefined
}>

/**
 * What headers were read before, by their text: a client shows one certificate with each request, and
 * parsing it costs more than everything else that is done with it.
 */
const forwarded = new RecentMap<ClientCertificate>(500, 1024 * 1024)

const forwardedOptions = namesOf<ForwardedCertificateOptions>({
  trusted: true,
  untrusted: true,
  format: true,
  header: true,
})

/**
 * Reads the client certificate that a proxy has forwarded; nothing where it forwarded none.
 *
 * It does NOT verify the certificate's chain, validity or revocation, and cannot know that the
 * client has the private key: everything rests on `trusted`, and on a proxy that removes what the
 * client wrote in the header itself.
 *
 * @example
 * ```ts
 * const trusted = isTrustedPeer(request.socket.remoteAddress)
 * const certificate = readClientCertificateHeader(request.rawHeaders, { trusted, format: 'nginx' })
 * await verifier.verify({ ...nodeRequest(request), certificate })
 * ```
 *
 * @throws {@link ClientCertificateError}
 */
export function readClientCertificateHeader(
  headers: RequestHeaders,
  options: ForwardedCertificateOptions,
): ClientCertificate | undefined {
  checkNames('options', options, forwardedOptions)
  const { untrusted = 'refuse', format, header } = options
  const trusted = flag('trusted', options.trusted)
  checkUntrusted(untrusted)
  if (!Object.hasOwn(formats, format)) throw new TypeError('format is not known')
  const { field, decode, chainField } = formats[format]
  const name = header?.toLowerCase() ?? field
  // A proxy that always sets the header leaves it empty where there was no certificate.
  const values = headerValues(headers, name).filter((value) => value !== '')
  const chainValues = chainField === undefined ? [] : headerValues(headers, chainField)
  if (values.length + chainValues.length === 0) return undefined

  // RFC 9440 section 4: from configured proxies only.
  if (!trusted) {
    if (untrusted === 'ignore') return undefined
    throw new ClientCertificateError(
      'untrusted_peer',
      `${name} is accepted from configured proxies only`,
    )
  }

  const [value] = values
  const chainValue = chainValues.join(',')
  const longest = decode === decodeByteSequence ? longestCertificate : longestChain
  if (values.some(({ length }) => length > longest) || chainValue.length > longestChain) {
    throw new ClientCertificateError('header_too_large', `${name} is too large`)
  }

  // Section 2.2: not a list, and not repeated. No format has a comma outside of quotes.
  if (values.length > 1 || (value !== undefined && isList(value))) {
    throw new ClientCertificateError('repeated_header', `a request holds at most one ${name}`)
  }
  // Section 2.3: a chain belongs to a certificate.
  if (value === undefined) throw malformed(`${name} beside ${chainField}`)

  // No header has a line break.
  const text = `${format}\n${value}\n${chainValue}`
  const known = forwarded.get(text)
  if (known !== undefined) return known

  const decoded = decode(value)
  const chain = chainValue === '' ? [] : decodeByteSequenceList(chainValue)
  if (decoded === undefined) throw malformed(`${name} in the format of ${format}`)
  if (chain === undefined) throw malformed(`${chainField} as a list of byte sequences`)
  const read = clientCertificate([...decoded, ...chain].map(parseCertificate))
  forwarded.set(text, read)
  return read
}

/** What is needed of a `TLSSocket`. */
type CertificateSocket = { getPeerX509Certificate(): X509Certificate | undefined }

/** A certificate belongs to its connection, and asking for it is not cheap. */
const ofSockets = new WeakMap<object, ClientCertificate | undefined>()

/**
 * The certificate that the peer of a TLS connection has proven in the handshake; nothing for other
 * sockets. The peer of a proxied connection is the proxy: its certificate is not the client's.
 */
export function socketCertificate(socket: object): ClientCertificate | undefined {
  if (!('getPeerX509Certificate' in socket)) return undefined
  if (!ofSockets.has(socket)) {
    const leaf = (socket as CertificateSocket).getPeerX509Certificate()
    ofSockets.set(socket, leaf && clientCertificate([leaf, ...issuers(leaf)]))
  }
  return ofSockets.get(socket)
}

function* issuers(leaf: X509Certificate): Iterable<X509Certificate> {
  let { issuerCertificate: issuer } = leaf
  for (let count = 1; issuer && count < mostCertificates; count += 1) {
    yield issuer
    issuer = issuer.issuerCertificate
  }
}

function clientCertificate(certificates: readonly X509Certificate[]): ClientCertificate {
  const [certificate, ...chain] = certificates
  if (certificate === undefined) throw malformed('a certificate')
  if (chain.length >= mostCertificates) {
    throw new ClientCertificateError('header_too_large', 'the certificate chain is too long')
  }
  const thumbprint = hash('sha256', certificate.raw, 'base64url')
  return Object.freeze({ certificate, thumbprint, chain: Object.freeze(chain) })
}

function parseCertificate(der: Buffer): X509Certificate {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(der)
  } catch (cause) {
    throw malformed('an X.509 certificate', { cause })
  }
  // Bytes after the certificate would give it another thumbprint.
  if (!certificate.raw.equals(der)) throw malformed('one X.509 certificate and nothing after it')
  return certificate
}

/** Whether a comma stands outside of quotes; of a quote without an end, the rest counts as well. */
function isList(value: string): boolean {
  let opened = -1
  for (let at = 0; at < value.length; at++) {
    const character = value[at]
    if (character === '"') opened = opened === -1 ? at : -1
    else if (character === '\\' && opened !== -1) at++
    else if (character === ',' && opened === -1) return true
  }
  return opened !== -1 && value.includes(',', opened)
}

function malformed(expected: string, options?: ErrorOptions): ClientCertificateError {
  return new ClientCertificateError(
    'malformed_header',
    `the forwarded certificate is malformed: expected ${expected}`,
    options,
  )
}
