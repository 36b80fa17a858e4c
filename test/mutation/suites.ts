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
  ['test/engine/clients.test.ts', 'test/engine/single-use.test.ts'],
  ['test/engine/key-rotation.test.ts'],
  ['test/engine/mtls.test.ts'],
  ['test/engine/token-binding.test.ts'],
]

const verify = [
  ['test/verify/verifier.test.ts'],
  ['test/verify/policy.test.ts', 'test/verify/mtls.test.ts'],
  ['test/verify/dpop.test.ts', 'test/verify/token-binding.test.ts'],
  ['test/verify/properties.test.ts', 'test/token-endpoint/refusals.test.ts'],
]

const engine = [
  ['test/engine/binding.test.ts', 'test/engine/authorization-state.test.ts'],
  ['test/engine/device-flow.test.ts'],
  ['test/engine/single-use.test.ts'],
  ['test/engine/token-binding.test.ts'],
  ['test/engine/mtls.test.ts'],
  ['test/session-binding', 'test/interaction'],
]

/** Tests of sources that are not named like them, by how the names of these begin. */
const named: readonly (readonly [RegExp, string])[] = [
  [/^src\/bindings\/token-binding/, 'test/bindings/token-binding-challenge.test.ts'],
  [/^src\/token-endpoint\/endpoints/, 'test/administration/admin-api.test.ts'],
  [/^packages\/verify\/(?:lib\/)?(?:dpop|jw|signature|rsa|recent)/, 'test/verify/dpop.test.ts'],
  [/^packages\/verify\/(?:lib\/)?token-binding/, 'test/verify/token-binding.test.ts'],
  [/^packages\/verify\/(?:dbsc|lib\/ticket)/, 'test/verify/dbsc.test.ts'],
  [
    /^packages\/verify\/(?:client-a|decr|disc|introsp|issuer|jwks|lib\/fetch)/,
    'test/verify/introspection.test.ts',
  ],
  [/^packages\/verify\/(?:lib\/|client-)certificate/, 'test/verify/mtls.test.ts'],
  [
    /^packages\/verify\/(?:answer|express|fastify|fetch|koa|metadata|node)/,
    'test/verify/adapters.test.ts',
  ],
  [/^packages\/verify\/(?:events|options|requirements|id-token)/, 'test/verify/policy.test.ts'],
  [/^packages\/verify\/replay/, 'test/verify/replay-stores.test.ts'],
  [/^packages\/verify\/lib\//, 'test/verify/lib.test.ts'],
]

type Groups = readonly (readonly string[])[]

/** The groups of tests for a source. The first that fails ends its mutant. */
export function suitesOf(file: string): { readonly quick: Groups; readonly slow: Groups } {
  const mirrored = file.replace(/^(?:src|packages)\//, 'test/').replace(/\.ts$/, '.test.ts')
  const ofName = named.flatMap(([names, test]) => (names.test(file) ? [test] : []))
  const own = [...new Set([mirrored, ...ofName])].filter((test) =>
    existsSync(path.join(root, test)),
  )
  const others = file.startsWith('packages/verify/')
    ? verify
    : file.startsWith('src/engine/')
      ? engine
      : tokenEndpoint
  // Those of the library need no server.
  const quickOnes = file.startsWith('packages/') ? others.length : 1
  return {
    quick: [own, ...others.slice(0, quickOnes)].filter((group) => group.length > 0),
    slow: others.slice(quickOnes),
  }
}
