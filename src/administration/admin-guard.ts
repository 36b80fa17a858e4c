import { createVerifier } from '@holdfast/verify'
import { koaVerify } from '@holdfast/verify/koa'
import type { ProofWindow } from '../bindings/binding.ts'
import { within } from '../bindings/dpop.ts'
import { adminResource } from '../engine/admin-resource.ts'
import { perView, publicKeysOf } from '../engine/engine-keys.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import type { CredentialLookup } from '../storage/credential-lookup.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import { revokedToken } from '../token-endpoint/presented-token.ts'

/**
 * Lets requests in that carry an access token for the admin API, bound by DPoP, with a proof that
 * no node has seen before. There is no other way in, and none for an unbound token.
 */
export function createAdminGuard({
  issuer,
  proofWindow,
  keys,
  replays,
  credentials,
}: {
  issuer: string
  proofWindow: ProofWindow
  /** The signing keys of this server. */
  keys: Pick<KeyRing, 'view' | 'now'>
  replays: ReplayTable
  credentials: Pick<CredentialLookup, 'stateOf'>
}) {
  // A token that was verified is remembered with the keys of that moment, and forgotten with them.
  const verifierBy = perView((view) =>
    createVerifier({
      issuer,
      audience: adminResource(issuer),
      publicOrigin: new URL(issuer).origin,
      jwks: { keys: publicKeysOf(view) },
      methods: ['dpop'],
      dpop: within(proofWindow),
      now: keys.now,
      isRevoked: async ({ claims: { jti } }) =>
        (await credentials.stateOf(artifactKey(revokedToken, String(jti)), undefined)) !== 'active',
      replay: {
        shared: true,
        consume: async (key, expiresAt) =>
          (await replays.recordReplay('admin', key, Math.ceil(expiresAt))) ? 'fresh' : 'replayed',
      },
    }),
  )
  const present = () => verifierBy(keys.view())
  return koaVerify({
    ...present(),
    verify: (request) => present().verify(request),
    refuse: (error) => present().refuse(error),
  })
}

export type AdminGuard = ReturnType<typeof createAdminGuard>
