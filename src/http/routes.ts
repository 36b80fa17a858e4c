/**
 * Every route of this server: its name, its methods and its path below the issuer. A request is
 * matched against this table once, exactly (see `routing.ts`); limits, same-origin rules and guards
 * hang on the names. A path that is not here does not exist, whatever a router behind would make
 * of it.
 */

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** A part of the server that can be switched off, by its name in the configuration. */
export type RouteFeature = 'adminApi' | 'deviceFlow' | 'registration' | 'signUp'

export interface Route {
  /** `GET` stands for HEAD as well. */
  readonly methods: readonly Method[]
  /** A segment that begins with a colon is a parameter. */
  readonly path: string
  /** Scripts of other origins may call it, so that their browsers ask first (OPTIONS). */
  readonly cors?: boolean
  /** A form of our own pages: another site must not send it. */
  readonly form?: boolean
  readonly feature?: RouteFeature
}

type Options = Omit<Route, 'methods' | 'path'>

/** Routes of the admin API are declared in the other table, where they need a scope. */
type OutsideAdmin<Path extends string> = Lowercase<Path> extends `/admin${string}` ? never : Path

/** Declares a route that needs no administrator. */
export function route<const Path extends string>(
  methods: readonly Method[],
  path: OutsideAdmin<Path>,
  options: Options = {},
): Route {
  return { methods, path, ...options }
}

const cors = { cors: true }
const form = { form: true }
const device = { feature: 'deviceFlow' } as const
const signUp = { feature: 'signUp' } as const
const registration = { cors: true, feature: 'registration' } as const

export const publicRoutes = {
  livez: route(['GET'], '/livez'),
  readyz: route(['GET'], '/readyz'),
  assets: route(['GET'], '/assets/:file'),
  client_logo: route(['GET'], '/logos/:logo'),
  doctor: route(['GET', 'DELETE'], '/doctor'),

  openid_metadata: route(['GET'], '/.well-known/openid-configuration', cors),
  oauth_metadata: route(['GET'], '/.well-known/oauth-authorization-server', cors),
  jwks: route(['GET'], '/jwks', cors),

  authorize: route(['GET', 'POST'], '/authorize'),
  authorize_resume: route(['GET'], '/authorize/:uid'),
  par: route(['POST'], '/par', cors),
  token: route(['POST'], '/token', cors),
  introspect: route(['POST'], '/introspect', cors),
  revoke: route(['POST'], '/revoke', cors),
  userinfo: route(['GET', 'POST'], '/userinfo', cors),

  backchannel_authentication: route(['POST'], '/backchannel'),

  device_authorization: route(['POST'], '/device_authorization', { ...cors, ...device }),
  device: route(['GET'], '/device', device),
  device_submit: route(['POST'], '/device', { ...form, ...device }),
  device_resume: route(['GET'], '/device/:uid', device),

  end_session: route(['GET', 'POST'], '/session/end'),
  end_session_confirm: route(['POST'], '/session/end/confirm', form),
  end_session_success: route(['GET'], '/session/end/success'),

  interaction: route(['GET'], '/interaction/:uid'),
  sign_in: route(['GET'], '/interaction/:uid/login'),
  sign_in_submit: route(['POST'], '/interaction/:uid/login', form),
  sign_in_passkey: route(['POST'], '/interaction/:uid/passkey', form),
  sign_in_code: route(['POST'], '/interaction/:uid/code', form),
  consent_submit: route(['POST'], '/interaction/:uid/confirm', form),
  interaction_abort: route(['POST'], '/interaction/:uid/abort', form),
  session_proof: route(['GET'], '/interaction/:uid/proof'),

  dbsc_metadata: route(['GET'], '/.well-known/device-bound-sessions'),
  dbsc_registration: route(['POST'], '/dbsc/registration'),
  dbsc_refresh: route(['POST'], '/dbsc/refresh'),

  home: route(['GET'], '/'),
  webauthn_metadata: route(['GET'], '/.well-known/webauthn'),
  change_password: route(['GET'], '/.well-known/change-password'),
  forgotten: route(['GET'], '/forgotten'),
  forgotten_submit: route(['POST'], '/forgotten', form),
  account_link: route(['GET'], '/link/:token'),
  account_link_password: route(['POST'], '/link/:token/password', form),
  account_link_passkey: route(['POST'], '/link/:token/passkey', form),
  sign_up: route(['GET'], '/sign-up', signUp),
  sign_up_submit: route(['POST'], '/sign-up', { ...form, ...signUp }),
  sign_up_link: route(['GET'], '/sign-up/:token', signUp),
  sign_up_link_submit: route(['POST'], '/sign-up/:token', { ...form, ...signUp }),
  email_change: route(['GET'], '/email/:token'),
  email_change_submit: route(['POST'], '/email/:token', form),
  security: route(['GET'], '/security'),
  security_profile: route(['GET'], '/security/profile'),
  security_name: route(['GET'], '/security/profile/name'),
  security_name_submit: route(['POST'], '/security/profile/name', form),
  security_email: route(['GET'], '/security/profile/email'),
  security_email_submit: route(['POST'], '/security/profile/email', form),
  security_locale: route(['GET'], '/security/profile/locale'),
  security_locale_submit: route(['POST'], '/security/profile/locale', form),
  security_sign_in: route(['GET'], '/security/sign-in'),
  security_sessions: route(['GET'], '/security/sessions'),
  security_applications: route(['GET'], '/security/applications'),
  security_activity: route(['GET'], '/security/activity'),
  security_data: route(['GET'], '/security/data'),
  security_export: route(['GET'], '/security/data/export'),
  security_export_submit: route(['POST'], '/security/data/export', form),
  security_delete: route(['GET'], '/security/data/delete'),
  security_delete_submit: route(['POST'], '/security/data/delete', form),
  approvals: route(['GET'], '/security/approvals'),
  approvals_approve: route(['POST'], '/security/approvals/approve', form),
  approvals_deny: route(['POST'], '/security/approvals/deny', form),
  security_passkeys: route(['POST'], '/security/passkeys', form),
  security_passkey_add: route(['GET'], '/security/passkeys/add'),
  security_passkey_add_submit: route(['POST'], '/security/passkeys/add', form),
  security_passkey_rename: route(['GET'], '/security/passkeys/:id/rename'),
  security_passkey_rename_submit: route(['POST'], '/security/passkeys/:id/rename', form),
  security_passkey_remove: route(['GET'], '/security/passkeys/:id/remove'),
  security_passkey_remove_submit: route(['POST'], '/security/passkeys/:id/remove', form),
  security_password: route(['GET'], '/security/password'),
  security_password_submit: route(['POST'], '/security/password', form),
  security_code_app: route(['GET'], '/security/code-app'),
  security_code_app_submit: route(['POST'], '/security/code-app', form),
  security_code_app_confirm: route(['POST'], '/security/code-app/confirm', form),
  security_code_app_remove: route(['GET'], '/security/code-app/remove'),
  security_code_app_remove_submit: route(['POST'], '/security/code-app/remove', form),
  security_recovery_codes: route(['GET'], '/security/recovery-codes'),
  security_recovery_codes_submit: route(['POST'], '/security/recovery-codes', form),
  security_end_session: route(['POST'], '/security/sessions/end', form),
  security_end_others: route(['POST'], '/security/sessions/end-others', form),
  security_end_application: route(['POST'], '/security/applications/end', form),
  security_end_installation: route(['POST'], '/security/installations/end', form),

  register: route(['POST'], '/register', registration),
  registration_read: route(['GET'], '/register/:client_id', registration),
  registration_update: route(['PUT'], '/register/:client_id', registration),
  registration_remove: route(['DELETE'], '/register/:client_id', registration),
} satisfies Record<string, Route>

/** Where one-time links of accounts lead: the token is appended. */
export const linkAddress = (issuer: string) =>
  issuer + publicRoutes.account_link.path.replace(':token', '')

/** Where links lead that confirm the address of a new account: the token is appended. */
export const signUpAddress = (issuer: string) =>
  issuer + publicRoutes.sign_up_link.path.replace(':token', '')

/** Where links lead that confirm another email: the token is appended. */
export const emailChangeAddress = (issuer: string) =>
  issuer + publicRoutes.email_change.path.replace(':token', '')

export interface AdminRoute extends Route {
  readonly path: `/admin/${string}`
  /** What the access token of a request must allow. */
  readonly scope: 'admin:read' | 'admin:write'
  readonly feature: 'adminApi'
}

const feature = 'adminApi'
const reads = (path: AdminRoute['path']): AdminRoute => ({
  methods: ['GET'],
  path,
  scope: 'admin:read',
  feature,
})
const writes = (method: Exclude<Method, 'GET'>, path: AdminRoute['path']): AdminRoute => ({
  methods: [method],
  path,
  scope: 'admin:write',
  feature,
})

/** The names are the operation ids of the OpenAPI document; `administration/operations.ts` has the rest. */
export const adminRoutes = {
  listClients: reads('/admin/clients'),
  addClient: writes('POST', '/admin/clients'),
  showClient: reads('/admin/clients/:client_id'),
  changeClient: writes('PUT', '/admin/clients/:client_id'),
  removeClient: writes('DELETE', '/admin/clients/:client_id'),
  setClientLogo: writes('PUT', '/admin/clients/:client_id/logo'),
  removeClientLogo: writes('DELETE', '/admin/clients/:client_id/logo'),
  renewClientSecret: writes('POST', '/admin/clients/:client_id/secret'),
  listAccounts: reads('/admin/accounts'),
  addAccount: writes('POST', '/admin/accounts'),
  changeAccount: writes('PATCH', '/admin/accounts/:email'),
  removeAccount: writes('DELETE', '/admin/accounts/:email'),
  importAccounts: writes('POST', '/admin/accounts/import'),
  exportAccounts: reads('/admin/accounts/export'),
  disableAccount: writes('POST', '/admin/accounts/:email/disable'),
  enableAccount: writes('POST', '/admin/accounts/:email/enable'),
  inviteAccount: writes('POST', '/admin/accounts/:email/invite'),
  resetAccount: writes('POST', '/admin/accounts/:email/reset'),
  signAccountOut: writes('POST', '/admin/accounts/:email/sign-out'),
  listPasskeys: reads('/admin/accounts/:email/passkeys'),
  removePasskey: writes('DELETE', '/admin/accounts/:email/passkeys/:id'),
  listInstallations: reads('/admin/accounts/:email/installations'),
  endInstallation: writes('DELETE', '/admin/accounts/:email/installations/:jkt'),
  setPassword: writes('PUT', '/admin/accounts/:email/password'),
  listInvitations: reads('/admin/invitations'),
  createInvitation: writes('POST', '/admin/invitations'),
  revokeInvitation: writes('DELETE', '/admin/invitations/:id'),
  listRegistrationTokens: reads('/admin/registration-tokens'),
  addRegistrationToken: writes('POST', '/admin/registration-tokens'),
  removeRegistrationToken: writes('DELETE', '/admin/registration-tokens/:id'),
  listResources: reads('/admin/resources'),
  addResource: writes('POST', '/admin/resources'),
  setDetailsTypes: writes('PUT', '/admin/resources/:identifier/authorization-details-types'),
  removeResource: writes('DELETE', '/admin/resources/:identifier'),
  listClaims: reads('/admin/claims'),
  replaceClaims: writes('PUT', '/admin/claims'),
  listSessions: reads('/admin/sessions'),
  endSession: writes('DELETE', '/admin/sessions/:id'),
  listGrants: reads('/admin/grants'),
  revokeGrant: writes('DELETE', '/admin/grants/:id'),
  listKeys: reads('/admin/keys'),
  rotateKeys: writes('POST', '/admin/keys/rotate'),
  retireKey: writes('POST', '/admin/keys/:kid/retire'),
  listAudit: reads('/admin/audit'),
  listCountedEvents: reads('/admin/audit/counted'),
  showOpenapi: reads('/admin/openapi.json'),
} satisfies Record<string, AdminRoute>

export type AdminRouteName = keyof typeof adminRoutes
export type RouteName = keyof typeof publicRoutes | AdminRouteName

export const allRoutes: Readonly<Record<RouteName, Route>> = { ...publicRoutes, ...adminRoutes }
