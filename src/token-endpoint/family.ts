import { hash } from 'node:crypto'
import { endedChainMemoryS } from '../config/lifetimes.ts'
import { type ArtifactTable, artifactKey } from '../storage/artifact-table.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { StoredSource } from './stored.ts'

/*
 * The family of a token is the chain of one authorization: what was issued from one code, and from
 * the refresh tokens that follow. A client and a browser session have one grant for any number of
 * chains. Where a code or refresh token comes back, the one chain ends, and the others continue.
 */

/** The family that begins with a code. */
export function familyOfCode(code: string): string {
  return hash('sha256', `family of ${code}`, 'base64url')
}

/**
 * Refuses a credential that was used before, and ends its family.
 *
 * @param family undefined for a refresh token that the previous release has issued.
 */
export function refuseReuse(
  credential: 'auth_req_id' | 'authorization_code' | 'device_code' | 'refresh_token',
  { grantId, accountId }: Partial<Pick<StoredSource, 'grantId' | 'accountId'>> = {},
  family: string | undefined,
): Refusal {
  if (grantId === undefined) return refuse(reasons[credential])
  return refuse(reasons[credential], {
    consequence: { kind: 'end-family', grantId, family, accountId, credential },
  })
}

const reasons = {
  auth_req_id: 'auth_req_id_replayed',
  authorization_code: 'code_replayed',
  device_code: 'device_code_replayed',
  refresh_token: 'refresh_token_replayed',
} as const

/** Ends a family; where it is not known, everything that was issued from the grant. */
export async function endFamily(
  { grantId, family: familyId }: { grantId: string; family: string | undefined },
  artifacts: Pick<ArtifactTable, 'endFamily' | 'removeGrant'>,
): Promise<void> {
  if (familyId === undefined) await artifacts.removeGrant(artifactKey('Grant', grantId), grantId)
  else await artifacts.endFamily({ grantId, familyId, rememberSeconds: endedChainMemoryS })
}
