/** Changes that an administrator makes. */
export const administrativeChanges = [
  'account.added',
  'account.changed',
  'account.disabled',
  'account.enabled',
  'account.invited',
  'account.passkey_removed',
  'account.password_set',
  'account.removed',
  'account.reset',
  'account.signed_out',
  'accounts.exported',
  'accounts.imported',
  'claims.changed',
  'client.added',
  'client.changed',
  'client.removed',
  'grant.revoked',
  'invitation.created',
  'invitation.revoked',
  'installation.ended',
  'registration_token.added',
  'registration_token.removed',
  'resource.added',
  'resource.details_types_changed',
  'resource.removed',
  'session.ended',
] as const

export type AdministrativeChange = (typeof administrativeChanges)[number]

/** What happens to a key of the server. */
export const keyEvents = [
  'key.made',
  'key.advanced',
  'key.retired',
  'key.resealed',
  'key.removed',
] as const

export type KeyEvent = (typeof keyEvents)[number]

/** The events of the audit trail (`audit_events`). */
export const auditEvents = [
  ...administrativeChanges,
  ...keyEvents,
  'account.deleted_by_owner',
  'account.exported',
  'account.signed_up',
  'account_link.used',
  'approval.denied',
  'approval.given',
  'client_authorities.changed',
  'client_authorities.unusable',
  'client_crl.expired',
  'code_app.removed',
  'code_app.set_up',
  'consent.denied',
  'consent.given',
  'consent.skipped',
  'device_code.approved',
  'device_code.denied',
  'email.change_requested',
  'email.changed',
  'grant.ended',
  'login.failed',
  'login.succeeded',
  'logout',
  'logout.undelivered',
  'mail.undelivered',
  'passkey.added',
  'passkey.counter_refused',
  'passkey.removed',
  'passkey.renamed',
  'password.changed',
  'ping.undelivered',
  'profile.changed',
  'recovery_codes.replaced',
  'refresh_token.rebound',
  'refresh_token.successor_named',
  'request.refused',
  'tokens.issued',
] as const

export type AuditEvent = (typeof auditEvents)[number]

/** The events that are counted by minute (`counted_events`): by network, but for issued tokens. */
export const countedEvents = [
  'client_certificate.untrusted',
  'consent.denied',
  'device_code.issued',
  'edge.refused',
  'login.failed',
  'logout',
  'passkey.registration_refused',
  'rate.limited',
  'request.refused',
  'tokens.issued',
  'user_code.unknown',
] as const

export type CountedEventName = (typeof countedEvents)[number]
