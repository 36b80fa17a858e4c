import type { ArtifactTable } from '../storage/artifact-table.ts'
import { artifactKey } from '../storage/artifact-table.ts'
import { endFamily } from './family.ts'
import type { MachineRequest, Outcome, Report } from './machine-request.ts'
import {
  clientOf,
  type FoundToken,
  type QuestionOptions,
  readQuestion,
  revokedToken,
} from './presented-token.ts'

export interface RevocationOptions extends QuestionOptions {
  readonly artifacts: Pick<
    ArtifactTable,
    'endFamily' | 'remove' | 'removeGrant' | 'removeIssued' | 'write'
  >
}

/**
 * RFC 7009: a client ends a token of its own, and with a stored one its family: the chain of one
 * authorization. Other chains of the same grant continue, and so does the grant. For tokens of
 * others the client gets the response for unknown ones.
 */
export function createRevocation(options: RevocationOptions) {
  const { artifacts } = options
  return async (request: MachineRequest): Promise<Outcome> => {
    const asked = await readQuestion(request, options)
    if ('result' in asked) return asked
    const { client, found } = asked
    const reports =
      found && clientOf(found) === client.clientId ? await revoke(found, artifacts) : []
    return { client, result: { body: '' }, reports }
  }
}

async function revoke(
  token: FoundToken,
  artifacts: RevocationOptions['artifacts'],
): Promise<readonly Report[]> {
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
