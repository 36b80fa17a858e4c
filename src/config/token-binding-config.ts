import { z } from 'zod'

const modes = ['off', 'tls', 'tls13-draft', 'proxy'] as const

/**
 * How Token Binding reaches this server: in its own TLS 1.2, in its TLS 1.3 as well by a draft that
 * expired, by the headers of trusted proxies, or not at all.
 */
export type TokenBindingMode = (typeof modes)[number]

export const tokenBindingVariables = {
  HOLDFAST_TOKEN_BINDING: z.enum(modes, `must be one of ${modes.join(', ')}`).default('off'),
}

/** What is wrong with variables that are each right. */
export function tokenBindingContradictions(
  given: Readonly<Record<string, string | undefined>>,
): string[] {
  const { HOLDFAST_TOKEN_BINDING: mode, HOLDFAST_TRUSTED_PROXIES: proxies } = given
  if ((mode === 'tls' || mode === 'tls13-draft') && given.HOLDFAST_TLS === 'off') {
    return [
      `HOLDFAST_TOKEN_BINDING is ${mode} while HOLDFAST_TLS is off: behind a proxy that ` +
        'terminates TLS, it is proxy.',
    ]
  }
  if (mode === 'proxy' && !proxies) {
    return [
      'HOLDFAST_TRUSTED_PROXIES is missing: HOLDFAST_TOKEN_BINDING=proxy is about its headers.',
    ]
  }
  return []
}
