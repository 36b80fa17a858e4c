import { z } from 'zod'

/** How strict the server is about the messages of clients. */
export interface ProtocolConfig {
  /** What all clients are held to; undefined where each says it for itself. */
  readonly profile: 'fapi2' | undefined
  /** Seconds by which a JWT of a client may be from the future, or expired. */
  readonly clockToleranceS: number
  /** Whether a client assertion may name an endpoint instead of the issuer. */
  readonly acceptsEndpointAudiences: boolean
}

export const protocolVariables = {
  HOLDFAST_PROFILE: z.enum(['default', 'fapi2'], 'must be default or fapi2').default('default'),
  HOLDFAST_CLOCK_TOLERANCE_SECONDS: z
    .string()
    .regex(/^\d{1,2}$/, 'must be a number of seconds from 10 to 60')
    .transform(Number)
    .refine((seconds) => seconds >= 10 && seconds <= 60, 'must be from 10 to 60')
    .default(10),
  HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE: z
    .enum(['on', 'off'], 'must be on or off')
    .default('off'),
}

type Values = z.output<z.ZodObject<typeof protocolVariables>>

export function protocolConfig(values: Values): ProtocolConfig {
  return {
    profile: values.HOLDFAST_PROFILE === 'fapi2' ? 'fapi2' : undefined,
    clockToleranceS: values.HOLDFAST_CLOCK_TOLERANCE_SECONDS,
    acceptsEndpointAudiences: values.HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE === 'on',
  }
}

/** What is wrong with variables that are each right. */
export function protocolContradictions(
  given: Readonly<Record<string, string | undefined>>,
): string[] {
  const {
    HOLDFAST_CLOCK_TOLERANCE_SECONDS: ahead = 10,
    HOLDFAST_PROOF_WINDOW_SECONDS: past = 300,
    HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE: acceptsEndpoints,
  } = given
  const problems: string[] = []
  if (Number(ahead) > Number(past)) {
    problems.push('HOLDFAST_CLOCK_TOLERANCE_SECONDS must not exceed HOLDFAST_PROOF_WINDOW_SECONDS.')
  }
  if (given.HOLDFAST_PROFILE === 'fapi2' && acceptsEndpoints === 'on') {
    problems.push(
      'HOLDFAST_DANGEROUSLY_ACCEPT_ENDPOINTS_AS_AUDIENCE must be off with HOLDFAST_PROFILE=fapi2 (FAPI 2.0 section 5.3.2.1).',
    )
  }
  return problems
}
