import {
  ClientCertificateError,
  type ClientCertificateErrorCode,
  VerifyError,
  verifyDPoPProof,
} from '@holdfast/verify'
import { TokenBindingError, type TokenBindingErrorCode } from '@holdfast/verify/token-binding'
import type { Middleware } from 'koa'
import type { Config } from '../config/config.ts'
import type { TokenBindingMode } from '../config/token-binding-config.ts'
import { isForwarded } from '../http/client-address.ts'
import type { Edge } from '../http/edge.ts'
import { publicRoutes } from '../http/routes.ts'
import type { DoctorCodes } from './codes.ts'

export const doctorPath = publicRoutes.doctor.path
export const doctorHeader = 'Holdfast-Doctor'

/** Everything by which a request can claim a key; none of it may come from a client through a proxy. */
export const claimingFields = [
  'Client-Cert',
  'Client-Cert-Chain',
  'X-SSL-Cert',
  'X-SSL-Client-DER',
  'X-Forwarded-Client-Cert',
  'X-Amzn-Mtls-Clientcert',
  'X-Amzn-Mtls-Clientcert-Leaf',
  'Sec-Token-Binding',
  'Sec-Provided-Token-Binding-ID',
  'Sec-Referred-Token-Binding-ID',
  'Sec-Other-Token-Binding-ID',
] as const

/** How a request looked when it arrived. Thumbprints and names, never the contents of a header. */
export interface Observation {
  readonly fromProxy: boolean
  /** What the server takes for the address of the client: limits count by it. */
  readonly address: string
  /** Whether X-Forwarded-For or Forwarded arrived. */
  readonly forwarded: boolean
  /** What the server takes for the public address of this request. */
  readonly url: string
  /** The claiming fields that arrived, in lower case, each as often as it came. */
  readonly fields: readonly string[]
  readonly format: string | null
  readonly certificate: string | null
  readonly refused: ClientCertificateErrorCode | null
  readonly tokenBinding: {
    readonly mode: TokenBindingMode
    /** The hash of the ID that was proven. */
    readonly provided: string | null
    readonly refused: TokenBindingErrorCode | null
  }
  readonly dpop: { readonly count: number; readonly error: string | null }
}

/**
 * Answers what the server saw of a request, to anyone who has the operator's code. To all others, and
 * after the examination, there is no such endpoint.
 */
export function doctorEndpoint({
  edge,
  codes,
  mtls,
  tokenBinding: mode,
  now,
}: {
  edge: Edge
  codes: DoctorCodes
  mtls: Config['mtls']
  tokenBinding: TokenBindingMode
  /** Milliseconds since the epoch. */
  now: () => number
}): Middleware {
  const fields: readonly string[] = [...claimingFields, mtls.forwarded?.header ?? ''].map((name) =>
    name.toLowerCase(),
  )
  return async (ctx, next) => {
    const code = ctx.get(doctorHeader)
    if (!code || !(await codes.isCurrent(code))) return next()
    ctx.set('cache-control', 'no-store')
    if (ctx.method === 'DELETE') {
      await codes.end(code)
      ctx.status = 204
      return
    }
    const { fromProxy, certificate, tokenBinding, refused } = edge.inspect(ctx.req)
    const [url = ''] = ctx.href.split('?')
    const observation: Observation = {
      fromProxy,
      address: ctx.state.address ?? '',
      forwarded: isForwarded(ctx.req),
      url,
      fields: ctx.req.rawHeaders
        .filter((_, index) => index % 2 === 0)
        .map((name) => name.toLowerCase())
        .filter((name) => fields.includes(name)),
      format: mtls.forwarded?.format ?? null,
      certificate: certificate?.thumbprint ?? null,
      refused: refused instanceof ClientCertificateError ? refused.code : null,
      tokenBinding: {
        mode,
        provided: tokenBinding?.provided.tbh ?? null,
        refused: refused instanceof TokenBindingError ? refused.code : null,
      },
      dpop: examineProofs(ctx.req.headersDistinct.dpop ?? [], {
        method: ctx.method,
        uri: url,
        now: now() / 1000,
      }),
    }
    ctx.body = observation
  }
}

function examineProofs(
  proofs: readonly string[],
  expected: { method: string; uri: string; now: number },
): Observation['dpop'] {
  const [proof] = proofs
  if (proof === undefined) return { count: 0, error: null }
  try {
    verifyDPoPProof(proof, expected)
    return { count: proofs.length, error: null }
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error
    return { count: proofs.length, error: error.code }
  }
}
