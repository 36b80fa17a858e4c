import type { MessageKey } from './messages.ts'

/** Texts for the scopes of one resource server, from the administrator who registered it. */
export interface ResourceLabels {
  name?: string
  scopes?: ReadonlyMap<string, string>
}

export type FindResourceLabels = (indicator: string) => Promise<ResourceLabels | undefined>

export const scopeLabels: ReadonlyMap<string, MessageKey> = new Map([
  ['openid', 'scope.openid'],
  ['profile', 'scope.profile'],
  ['email', 'claim.email'],
  ['address', 'claim.address'],
  ['phone', 'claim.phone'],
  ['groups', 'claim.groups'],
  ['offline_access', 'scope.offline_access'],
])

export const claimLabels: ReadonlyMap<string, MessageKey> = new Map([
  ['name', 'claim.name'],
  ['email', 'claim.email'],
  ['email_verified', 'claim.email_verified'],
  ['address', 'claim.address'],
  ['phone_number', 'claim.phone'],
  ['phone_number_verified', 'claim.phone_verified'],
  ['groups', 'claim.groups'],
  ...(
    [
      'given_name',
      'family_name',
      'preferred_username',
      'picture',
      'zoneinfo',
      'locale',
      'updated_at',
    ] as const
  ).map((claim) => [claim, 'scope.profile'] as const),
])
