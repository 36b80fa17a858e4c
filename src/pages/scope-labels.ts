import type { MessageKey } from './messages.ts'

/** Texts for the scopes of one resource server, from the administrator who registered it. */
export interface ResourceLabels {
  name?: string
  scopes?: ReadonlyMap<string, string>
}

export type FindResourceLabels = (indicator: string) => Promise<ResourceLabels | undefined>

export const scopeLabels: ReadonlyMap<string, MessageKey> = new Map([
  ['openid', 'scope.openid'],
  ['profile', 'claim.name'],
  ['email', 'claim.email'],
  ['offline_access', 'scope.offline_access'],
])

export const claimLabels: ReadonlyMap<string, MessageKey> = new Map([
  ['name', 'claim.name'],
  ['email', 'claim.email'],
  ['email_verified', 'claim.email_verified'],
])
