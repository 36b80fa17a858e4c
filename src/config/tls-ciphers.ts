import { getCiphers } from 'node:tls'
import { z } from 'zod'

/** RFC 9325 section 4.2 for TLS 1.2, and the suites of TLS 1.3, by the names of OpenSSL. */
const recommended = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':')

/** OpenSSL ignores names that it does not know: a list of such names would be an empty one. */
function areKnown(list: string): boolean {
  const known = new Set(getCiphers())
  return list.split(':').every((name) => known.has(name.toLowerCase()))
}

export const tlsCipherVariables = {
  HOLDFAST_TLS_CIPHERS: z
    .string()
    .refine(
      areKnown,
      'must be names of cipher suites as OpenSSL writes them, such as TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256',
    )
    .default(recommended),
}
