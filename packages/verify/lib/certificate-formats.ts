/*
 * How proxies write a client certificate into a header field. Each decoder returns DER, the
 * client's certificate first and whatever chain came with it after, or `undefined` for text that
 * is not of its format. Whether the DER is a certificate is looked at by the caller.
 */
export type CertificateDecoder = (text: string) => readonly Buffer[] | undefined

/** RFC 9440 section 2.1: a Byte Sequence of RFC 8941, standard base64 between colons. */
export function decodeByteSequence(text: string): readonly Buffer[] | undefined {
  const [, base64] = /^:([A-Za-z0-9+/=]+):$/.exec(text) ?? []
  return base64 === undefined ? undefined : decodeBase64(base64)
}

/** RFC 9440 section 2.3: a List of Byte Sequences, which may be spread over several fields. */
export function decodeByteSequenceList(text: string): readonly Buffer[] | undefined {
  return all(text.split(',').map((item) => decodeByteSequence(item.trim())))
}

/** HAProxy's `ssl_c_der,base64`; `%{+Q}` puts it in quotes. */
export function decodeBase64(text: string): readonly Buffer[] | undefined {
  const base64 = /^"(.*)"$/.exec(text)?.[1] ?? text
  const bytes = Buffer.from(base64, 'base64')
  // Node's decoder skips what it does not know: one certificate has one spelling.
  return bytes.toString('base64') === base64 ? [bytes] : undefined
}

/** nginx's `$ssl_client_escaped_cert` and the headers of AWS ALB: percent-encoded PEM. */
export function decodeEscapedPem(text: string): readonly Buffer[] | undefined {
  try {
    return decodePem(decodeURIComponent(text))
  } catch {
    return undefined
  }
}

/**
 * Envoy's `x-forwarded-client-cert`: `key=value` pairs, separated by semicolons. `Chain` holds the
 * client's certificate and those that came with it; `Cert` holds the client's alone.
 */
export function decodeXfcc(text: string): readonly Buffer[] | undefined {
  const values = new Map<string, string>()
  // Sticky: a pair begins where the last one has ended, or nowhere.
  const pair = new RegExp(xfccPair, 'y')
  while (pair.lastIndex < text.length) {
    const found = pair.exec(text)
    if (found === null) return undefined
    const [, key = '', quoted, plain = ''] = found
    const name = key.toLowerCase()
    if (values.has(name) && certificateKeys.includes(name)) return undefined
    values.set(name, quoted?.replaceAll('\\"', '"') ?? plain)
  }
  const [cert, chain] = certificateKeys.map((key) => {
    const value = values.get(key)
    return value === undefined ? undefined : decodeEscapedPem(value)
  })
  if (cert === undefined || cert.length !== 1) return chain
  // Both name the same client, or one of them is not Envoy's.
  if (chain?.[0] && cert[0] && !chain[0].equals(cert[0])) return undefined
  return chain ?? cert
}

const certificateKeys = ['cert', 'chain']
const xfccPair = /([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;]*))(?:;|$)/

const pemCertificate =
  /-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n-----END CERTIFICATE-----(?:\r?\n|$)/g

function decodePem(text: string): readonly Buffer[] | undefined {
  const blocks = [...text.matchAll(pemCertificate)]
  if (blocks.map(([block]) => block).join('') !== text) return undefined
  return all(blocks.map(([, base64 = '']) => decodeBase64(base64.replace(/\r?\n/g, ''))))
}

function all(parts: readonly (readonly Buffer[] | undefined)[]): readonly Buffer[] | undefined {
  const found: Buffer[] = []
  for (const part of parts) {
    if (part === undefined) return undefined
    found.push(...part)
  }
  return found.length === 0 ? undefined : found
}
