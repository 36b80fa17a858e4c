import { randomUUID } from 'node:crypto'
import { artifactKey } from '../../../src/storage/artifact-table.ts'
import type { Storage } from '../../../src/storage/open-storage.ts'
import { accountId, api, type CredentialOrder } from './scenario.ts'

/**
 * Device codes that a person has just let in. Here they are rows and not models: each of the engine's
 * steps to this state is a statement of its own, and needs the session in which the person decides.
 */
export async function makeDeviceCodes(
  { artifacts, browserRequests }: Storage,
  { clientId, count, bound }: CredentialOrder,
): Promise<string[]> {
  const now = Math.floor(Date.now() / 1000)
  const expiresAt = now + 600
  const [sessionUid, grantId] = [randomUUID(), randomUUID()]
  const authorizations = { [clientId]: { grantId } }
  const write = (kind: string, value: string, payload: Record<string, unknown>, uid?: string) =>
    artifacts.write({
      ...artifactKey(kind, value),
      grantId,
      uid,
      accountId,
      clientId,
      sessionUid: kind === 'DeviceCode' ? sessionUid : undefined,
      payload: { kind, iat: now, exp: expiresAt, accountId, clientId, ...payload },
      expiresAt,
    })
  const session = {
    uid: sessionUid,
    accountId,
    authorized: authorizations,
    withdrawn: [],
    userAgent: '',
    address: '',
    tbh: undefined,
    signedInAt: now,
    expiresAt,
  }
  await browserRequests.commit({ session })
  await write(
    'Session',
    randomUUID(),
    { uid: sessionUid, authorizations, loginTs: now },
    sessionUid,
  )
  const openid = { scope: 'offline_access' }
  await write('Grant', grantId, { openid, resources: { [api]: 'read' } })
  const values = Array.from({ length: count }, () => randomUUID())
  const source = { grantId, sessionUid, scope: 'offline_access read', resource: api, ...bound }
  for (const value of values) await write('DeviceCode', value, source)
  return values
}
