import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { asDistinguishedName, parseDistinguishedName, sameName } from './distinguished-name.ts'
import * as x509 from './x509.ts'

/** The metadata of RFC 8705 section 2.1.2, each naming a client's certificate in its own way. */
export const subjectProperties = [
  'tls_client_auth_subject_dn',
  'tls_client_auth_san_dns',
  'tls_client_auth_san_uri',
  'tls_client_auth_san_ip',
  'tls_client_auth_san_email',
] as const

export type SubjectProperty = (typeof subjectProperties)[number]

/** Whether a value can be registered for a property at all. */
export function isSubjectValue(property: SubjectProperty, value: string): boolean {
  switch (property) {
    case 'tls_client_auth_subject_dn':
      return parseDistinguishedName(value) !== undefined
    case 'tls_client_auth_san_ip':
      return isIP(value) !== 0
    case 'tls_client_auth_san_email':
      return /^[^@\s]+@[^@\s]+$/.test(value)
    case 'tls_client_auth_san_uri':
      return URL.canParse(value)
    case 'tls_client_auth_san_dns':
      return /^[A-Za-z0-9*_-]+(\.[A-Za-z0-9_-]+)*$/.test(value)
  }
}

/**
 * Whether a certificate is the one that was registered. No wildcards, no searching of the common
 * name: a name in the certificate is equal to the registered one by the rule of its kind, or not.
 */
export function subjectMatches(
  certificate: X509Certificate,
  property: SubjectProperty,
  expected: string,
): boolean {
  const parsed = new x509.X509Certificate(certificate.raw)
  const has = (type: x509.GeneralNameType, normalise: (value: string) => string | undefined) => {
    const wanted = normalise(expected)
    const extension = parsed.getExtension(x509.SubjectAlternativeNameExtension)
    const names = extension?.names.items.filter((name) => name.type === type) ?? []
    return wanted !== undefined && names.some(({ value }) => normalise(value) === wanted)
  }
  switch (property) {
    case 'tls_client_auth_subject_dn': {
      const name = parseDistinguishedName(expected)
      return name !== undefined && sameName(asDistinguishedName(parsed.subjectName.toJSON()), name)
    }
    case 'tls_client_auth_san_dns':
      return has('dns', (value) => value.toLowerCase())
    case 'tls_client_auth_san_uri':
      return has('url', (value) => value)
    case 'tls_client_auth_san_ip':
      return has('ip', canonicalAddress)
    case 'tls_client_auth_san_email':
      return has('email', canonicalEmail)
  }
}

/** RFC 5952 section 8: addresses compare in binary, which one canonical text of each is as good as. */
function canonicalAddress(text: string): string | undefined {
  switch (isIP(text)) {
    case 4:
      return text
    case 6:
      return new URL(`http://[${text}]`).hostname
    default:
      return undefined
  }
}

/** RFC 5280 section 7.5: the host in any case, the local part exactly. */
function canonicalEmail(text: string): string {
  const at = text.lastIndexOf('@')
  return text.slice(0, at) + text.slice(at).toLowerCase()
}
