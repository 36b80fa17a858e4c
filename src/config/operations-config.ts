import { z } from 'zod'
import { trustedPeers } from '../http/trusted-peers.ts'

/** What serves operators. */
export interface OperationsConfig {
  /** Where metrics are served: an address of their own, which the Internet does not reach. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined
  readonly adminApi: boolean
}

export const operationsVariables = {
  HOLDFAST_TRUSTED_PROXIES: z
    .string()
    .transform((text) => text.split(',').map((network) => network.trim()))
    .refine(areNetworks, 'must be addresses and networks such as 10.0.0.0/8,192.0.2.7')
    .optional(),
  HOLDFAST_METRICS: z
    .string()
    .refine(
      (text) => parseAddress(text) !== undefined,
      'must be an address and port such as 127.0.0.1:9464',
    )
    .optional(),
  HOLDFAST_ADMIN_API: z.enum(['on', 'off'], 'must be on or off').default('off'),
}

type Values = z.output<z.ZodObject<typeof operationsVariables>>

export function operationsConfig(values: Values): OperationsConfig {
  return {
    metrics:
      values.HOLDFAST_METRICS === undefined ? undefined : parseAddress(values.HOLDFAST_METRICS),
    adminApi: values.HOLDFAST_ADMIN_API === 'on',
  }
}

function parseAddress(text: string): { host: string; port: number } | undefined {
  const url = URL.parse(`tcp://${text}`)
  const port = Number(url?.port)
  if (!url || port < 1 || url.host !== text) return undefined
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port }
}

function areNetworks(networks: readonly string[]): boolean {
  try {
    trustedPeers(networks)
    return true
  } catch {
    return false
  }
}
