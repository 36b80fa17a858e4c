import type { ArtifactTable } from '../storage/artifact-table.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import type { ClientAuthenticationOptions } from './client-authentication.ts'
import { endFamily } from './family.ts'
import { clientOf } from './introspection.ts'
import {
  authenticate,
  type MachineRequest,
  type Outcome,
  readToken,
  type Told,
  writeMarks,
} from './machine-request.ts'
import { type FindToken, type FoundToken, revokedToken } from './presented-token.ts'
import { isRefusal } from './refusal.ts'

export interface RevocationOptions {
  readonly authentication: ClientAuthenticationOptions
  readonly findToken: FindToken
  readonly artifacts: Pick<
    ArtifactTable,
    'endFamily' | 'remove' | 'removeGrant' | 'removeIssued' | 'write'
  >
  readonly replays: Pick<ReplayTable, 'insert'>
}

/**
 * RFC 7009: a client ends a token of its own, and with a stored one its family: the chain of one
 * authorization. Other chains of the same grant go on, and so does the grant. Of the tokens of others it is told what it is told of unknown ones.
 */
export function createRevocation(options: RevocationOptions) {
  const { authentication, findToken, artifacts, replays } = options
  return async (request: MachineRequest): Promise<Outcome> => {
    const caller = await authenticate(request, authentication)
    if (!('marks' in caller)) return caller
    const { client, marks } = caller
    const replayed = await writeMarks(marks, replays)
    if (replayed) return { client, result: replayed }
    const read = readToken(request)
    if (isRefusal(read)) return { client, result: read }
    const found = await findToken(read.token, request.now)
    const told = found && clientOf(found) === client.clientId ? await revoke(found, artifacts) : []
    return { client, result: { body: '' }, told }
  }
}

async function revoke(
  token: FoundToken,
  artifacts: RevocationOptions['artifacts'],
): Promise<readonly Told[]> {
  if (token.kind === 'JWT') {
    const { jti, exp: expiresAt } = token.claims
    const names = { grantId: undefined, uid: undefined }
    const key = artifactKey(revokedToken, jti)
    await artifacts.write({ ...key, ...names, payload: {}, expiresAt })
    return []
  }
  const { key, source } = token.found
  const { grantId, family, accountId } = source
  if (grantId === undefined) {
    await artifacts.remove(key)
    return []
  }
  const isAccessToken = token.kind === 'AccessToken'
  // What the person has allowed stays where a client gives an access token back.
  if (isAccessToken && family === undefined) await artifacts.removeIssued(grantId)
  else await endFamily({ grantId, family }, artifacts)
  const credential = isAccessToken ? 'access_token' : 'refresh_token'
  return [{ event: 'grant ended', cause: 'revoked', grantId, family, accountId, credential }]
}
