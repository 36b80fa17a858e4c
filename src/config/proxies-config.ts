import { z } from 'zod'
import { isLoopback } from '../net/loopback.ts'
import type { Config } from './config.ts'

export const proxiesVariables = {
  HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES: z
    .enum(['on', 'off'], 'must be on or off')
    .default('off'),
}

const consequence =
  'every client has the address of the proxy, and after a hundred failed sign-ins no one can sign ' +
  'in who has not done so before'

/** Plain HTTP for a public issuer has a proxy in front, which has to be named. */
export function proxiesContradictions(
  given: Readonly<Record<string, string | undefined>>,
): string[] {
  const issuer = URL.parse(given.HOLDFAST_ISSUER ?? '')
  const isPublic = issuer !== null && !isLoopback(issuer)
  if (given.HOLDFAST_TLS !== 'off' || !isPublic || given.HOLDFAST_TRUSTED_PROXIES) return []
  if (given.HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES === 'on') return []
  return [
    'HOLDFAST_TRUSTED_PROXIES is missing while HOLDFAST_TLS is off and HOLDFAST_ISSUER is public: ' +
      `${consequence}. Name the proxy by its address, or set ` +
      'HOLDFAST_ALLOW_TLS_OFF_WITHOUT_TRUSTED_PROXIES=on where it keeps the addresses of clients.',
  ]
}

/** What is allowed and is probably a mistake: for the log at start and `config check`. */
export function configWarnings({
  issuer,
  tls,
  trustedProxies,
  listen,
}: Pick<Config, 'issuer' | 'tls' | 'trustedProxies' | 'listen'>): string[] {
  const isPublic = !isLoopback(new URL(issuer))
  const isLocal = ['localhost', '127.0.0.1', '::1'].includes(listen.host)
  if (!isPublic) {
    return isLocal
      ? []
      : [
          `HOLDFAST_HOST is ${listen.host} and HOLDFAST_ISSUER is ${issuer}: other machines reach ` +
            'this server and are redirected to themselves. Set HOLDFAST_ISSUER to the address that ' +
            'clients use.',
        ]
  }
  if (trustedProxies.length > 0 || (tls.mode !== 'off' && !isLocal)) return []
  const why = tls.mode === 'off' ? 'HOLDFAST_TLS is off' : `HOLDFAST_HOST is ${listen.host}`
  return [
    `HOLDFAST_ISSUER is public, ${why}, and HOLDFAST_TRUSTED_PROXIES is empty: if a proxy that ` +
      `does not keep the addresses of clients is in front, ${consequence}. ` +
      'Name it in HOLDFAST_TRUSTED_PROXIES.',
  ]
}
