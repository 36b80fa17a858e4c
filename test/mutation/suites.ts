/** Which sources are broken, and by which tests: the quick ones first. */
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

/** Sources whose guards are broken, unless others are named. */
export const folders = [
  'src/token-endpoint',
  'src/bindings',
  'packages/verify',
  'src/engine',
] as const

/** Tests that start no server: those of the library first, which load nothing else. */
export const quick = [
  'verify/lib',
  'verify/dpop',
  'verify/verifier',
  'verify/policy',
  'verify/mtls',
  'verify/introspection',
  'verify/dbsc',
  'verify/page-keys',
  'verify/tickets',
  'verify/mcp',
  'verify/gate',
  'verify/token-binding',
  'verify/adapters',
  'bindings/mtls',
  'bindings/token-binding-challenge',
  'token-endpoint/refusals',
  'token-endpoint/introspection',
  'token-endpoint/standby-introspection',
  'engine/browser-state',
  'engine/client-metadata',
  'engine/refusals',
  'engine/sessions',
  'engine/cookie-signatures',
]

/** Tests of servers without a database, which a process can start once: each mutant has its own. */
export const once = ['gate/attacks', 'gate/gate', 'gate/config', 'gate/forward-auth']

/** Those of servers and databases, for what the quick ones do not find. */
export const slow = [
  'token-endpoint/machine-endpoints',
  'engine/authorization-state',
  'engine/backchannel',
  'engine/clients',
  'engine/single-use',
  'engine/device-flow',
  'engine/binding',
  'engine/token-binding',
  'engine/mtls',
  'engine/open-clients',
  'engine/authentication-context',
  'engine/key-rotation',
  'engine/client-removal',
  'session-binding/dbsc',
  'session-binding/page-key',
  'session-binding/token-binding',
  'account-page/security-router',
  'administration/admin-api',
  'registration/registration',
  'clients/clients',
  'interaction/interaction-router',
  'interaction/provider-pages',
  'limits/limits',
  'limits/device-flow',
  'http/routing',
  'http/headers',
  'verify/replay-stores',
  'verify/properties',
  'token-endpoint/differential',
]
