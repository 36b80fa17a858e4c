import type Provider from 'oidc-provider'
import { errors, type TokenEndpointGrantContext } from 'oidc-provider'
import { artifactKey } from '../storage/artifact-table.ts'
import type { DevicePollTable } from '../storage/device-poll-table.ts'
import { markNow } from '../storage/pending-marks.ts'
import { markProof } from './device-codes.ts'
import { pollInterval } from './device-grant.ts'
import { lifetimes } from './lifetimes.ts'

type Grant = (ctx: TokenEndpointGrantContext) => void | Promise<void>

/**
 * RFC 8628 section 3.5: a device whose person has not decided is told to wait, and one that asks too
 * often to wait longer. It has shown the key of its code by then, and what it has shown is used up:
 * whoever repeats a request of its slows nobody down.
 */
export function withSlowDown(engine: Provider, polls: DevicePollTable, grant: Grant): Grant {
  return async (ctx) => {
    try {
      await grant(ctx)
    } catch (error) {
      if (!(error instanceof errors.AuthorizationPending)) throw error
      await markProof(engine, ctx)
      await markNow()
      const { id } = artifactKey('DeviceCode', String(ctx.oidc.params?.device_code))
      const expiresAt = Math.floor(Date.now() / 1000) + lifetimes.DeviceCode
      if (!(await polls.take(id, { pause: pollInterval, expiresAt }))) throw new errors.SlowDown()
      throw error
    }
  }
}
