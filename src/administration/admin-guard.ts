import { createPublicKey } from 'node:crypto'
import type { JWK } from 'oidc-provider'
import { adminResource } from '../provider/admin-resource.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import { koaVerify } from '../verify/koa.ts'
import { createVerifier } from '../verify/verifier.ts'

/**
 * Lets requests in that carry an access token for the admin API, bound by DPoP, with a proof that
 * no node has seen before. There is no other way in, and none for an unbound token.
 */
export function createAdminGuard({
  issuer,
  keys,
  replays,
}: {
  issuer: string
  /** The signing keys of this server. */
  keys: readonly JWK[]
  replays: ReplayTable
}) {
  const verifier = createVerifier({
    issuer,
    audience: adminResource(issuer),
    publicOrigin: new URL(issuer).origin,
    jwks: { keys: keys.map(asPublic) },
    methods: ['dpop'],
    replay: {
      shared: true,
      consume: async (key, expiresAt) =>
        (await replays.markOnce('admin', key, Math.ceil(expiresAt))) ? 'fresh' : 'replayed',
    },
  })
  return koaVerify(verifier)
}

export type AdminGuard = ReturnType<typeof createAdminGuard>

function asPublic(jwk: JWK): object {
  const publicKey = createPublicKey({ key: jwk as never, format: 'jwk' })
  return { ...publicKey.export({ format: 'jwk' }), kid: jwk.kid, alg: jwk.alg, use: 'sig' }
}
