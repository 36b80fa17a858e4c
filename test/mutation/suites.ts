/** Which tests are to find the mutants of a source: groups of files, the quick ones first. */
import { existsSync } from 'node:fs'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

/** Sources whose guards are broken, unless others are named. */
export const folders = [
  'src/token-endpoint',
  'src/bindings',
  'packages/verify',
  'src/engine',
] as const

const tokenEndpoint = [
  ['test/token-endpoint/refusals.test.ts'],
  ['test/token-endpoint/machine-endpoints.test.ts', 'test/token-endpoint/differential.test.ts'],
  ['test/engine/client-assertion.test.ts', 'test/engine/refresh-reuse.test.ts'],
  ['test/engine/key-renewal.test.ts', 'test/engine/jwks-uri.test.ts'],
  ['test/engine/mtls.test.ts', 'test/engine/client-certificates.test.ts'],
  ['test/engine/token-binding.test.ts', 'test/engine/token-binding-id-token.test.ts'],
]

const verify = [
  ['test/verify/verifier.test.ts', 'test/verify/policy.test.ts', 'test/verify/options.test.ts'],
  ['test/verify/properties.test.ts', 'test/verify/access-token.test.ts'],
  ['test/token-endpoint/refusals.test.ts', 'test/attack/attack.test.ts'],
]

const engine = [
  ['test/engine/binding.test.ts', 'test/engine/authorization-state.test.ts'],
  ['test/engine/device-flow.test.ts', 'test/engine/device-bindings.test.ts'],
  ['test/engine/single-use.test.ts', 'test/engine/dpop-proofs.test.ts'],
  ['test/engine/token-binding.test.ts', 'test/engine/token-binding-pkce.test.ts'],
  ['test/engine/mtls.test.ts', 'test/engine/client-certificates.test.ts'],
  ['test/session-binding', 'test/interaction'],
]

/** Tests of a source that are not named like it. */
const more: Readonly<Record<string, readonly string[]>> = {
  'packages/verify/lib/token-binding-message.ts': ['test/verify/token-binding.test.ts'],
  'packages/verify/lib/token-binding-key.ts': ['test/verify/token-binding.test.ts'],
  'packages/verify/lib/certificate-formats.ts': ['test/verify/client-certificate.test.ts'],
  'packages/verify/lib/ticket.ts': ['test/verify/dbsc.test.ts', 'test/verify/dpop-nonce.test.ts'],
  'packages/verify/dbsc-express.ts': ['test/verify/dbsc-adapters.test.ts'],
  'packages/verify/dbsc-koa.ts': ['test/verify/dbsc-adapters.test.ts'],
  'packages/verify/express.ts': ['test/verify/adapters.test.ts', 'test/verify/mounted.test.ts'],
  'packages/verify/fastify.ts': ['test/verify/adapters.test.ts', 'test/verify/mounted.test.ts'],
  'packages/verify/fetch.ts': ['test/verify/adapters.test.ts'],
  'packages/verify/jwt-access-token.ts': ['test/verify/access-token.test.ts'],
  'packages/verify/issuer-keys.ts': ['test/verify/jwks.test.ts'],
  'packages/verify/requirements.ts': ['test/verify/policy.test.ts'],
}

type Groups = readonly (readonly string[])[]

/** The groups of tests for a source. The first that fails ends its mutant. */
export function suitesOf(file: string): { readonly quick: Groups; readonly slow: Groups } {
  const mirrored = file.replace(/^(?:src|packages)\//, 'test/').replace(/\.ts$/, '.test.ts')
  const own = [mirrored, ...(more[file] ?? [])].filter((test) => existsSync(path.join(root, test)))
  const others = file.startsWith('packages/verify/')
    ? verify
    : file.startsWith('src/engine/')
      ? engine
      : tokenEndpoint
  const [first, ...slow] = others
  return { quick: [own, first ?? []].filter((group) => group.length > 0), slow }
}
