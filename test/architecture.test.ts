import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'

const root = path.resolve(import.meta.dirname, '..')
const picture = await readFile(path.join(root, 'docs/architecture.md'), 'utf8')

/** The floors of the house, top to bottom, as docs/architecture.md draws them. */
const floors = [...(picture.split('```floors\n')[1]?.split('```')[0] ?? '').matchAll(/^.+$/gm)].map(
  ([line]) => line.split('#')[0]?.trim().split(/\s+/) ?? [],
)

interface Import {
  readonly from: string
  readonly to: string
}

async function sources(folder: string): Promise<string[]> {
  const names = await readdir(path.join(root, folder), { recursive: true })
  return names.filter((name) => name.endsWith('.ts')).map((name) => path.join(folder, name))
}

async function importsOf(folder: string): Promise<Import[]> {
  const found = (await sources(folder)).map(async (from) => {
    const text = await readFile(path.join(root, from), 'utf8')
    const specifiers = text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)
    return [...specifiers].map(([, specifier = '']) => ({
      from,
      to: path.join(path.dirname(from), specifier),
    }))
  })
  return (await Promise.all(found)).flat()
}

/** `src/keys/key-ring.ts` is in `keys`, `src/cli.ts` is `cli.ts`. */
const placeOf = (file: string) => file.split('/')[1] ?? ''

const floorOf = (place: string) => floors.findIndex((floor) => floor.includes(place))

const all = await importsOf('src')

test('the picture has every folder of src, and no other', async (t) => {
  const folders = new Set((await sources('src')).map(placeOf))
  t.deepEqual(floors.flat().sort(), [...folders].sort())
})

test('a file imports from its own folder or from a floor below', (t) => {
  const upward = all.filter(({ from, to }) => {
    const [here, there] = [placeOf(from), placeOf(to)]
    return here !== there && floorOf(there) <= floorOf(here)
  })
  t.true(all.length > 500)
  t.deepEqual(upward, [])
})

test('no import leaves src: packages are reached through their exports', (t) => {
  t.deepEqual(
    all.filter(({ to }) => !to.startsWith('src/')),
    [],
  )
})

test('the gate and the server import nothing of each other', async (t) => {
  const gate = await importsOf('packages/gate')
  t.true(gate.length > 30)
  t.deepEqual(
    gate.filter(({ to }) => !to.startsWith('packages/gate/')),
    [],
  )
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  // By its name, where it is installed: `holdfast gate`.
  t.deepEqual(
    files.filter((_, at) => texts[at]?.includes('@holdfast/gate')),
    ['src/commands/gate.ts'],
  )
})

test('only the engine imports private modules of oidc-provider', async (t) => {
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  const importing = files.filter((_, index) => /'oidc-provider\/lib\//.test(texts[index] ?? ''))
  t.deepEqual(
    importing.filter((file) => placeOf(file) !== 'engine'),
    [],
  )
})

test('test/support imports no example', async (t) => {
  const support = await importsOf('test/support')
  t.deepEqual(
    support.filter(({ to }) => to.startsWith('examples/')),
    [],
  )
})

/** Everything else takes a clock: what ends, and what has ended, is decided by that of the database. */
const ownClocks = {
  'src/accounts/accounts.ts': 'when an account was made',
  'src/certificates/watched-authorities.ts': 'when to warn of a list that has ended',
  'src/commands/audit.ts': 'a duration ago, as the person at the terminal means it',
  'src/commands/progress.ts': 'how long a step takes',
  'src/doctor/client-certificate.ts': 'a certificate to examine a deployment with',
  'src/doctor/gate.ts': 'compares the clock of a gate with that of this machine',
  'src/http/development-authority.ts': 'certificates of this machine',
  'src/http/readiness.ts': 'compares the clock of the node with that of the database',
  'src/net/guarded-fetch.ts': 'how often a node fetches',
  'src/observability/audit-trail.ts': 'when something happened',
  'src/observability/event-counts.ts': 'when something happened',
  'src/observability/events.ts': 'when something happened',
  'src/observability/line-budget.ts': 'how many lines a minute',
  'src/storage/embedded-postgres.ts': 'how long a start may take',
  'src/storage/engine-times.ts': 'the clock that the engine reads',
}

test('no other file reads the clock of the node', async (t) => {
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  const reading = files.filter((_, at) => /\bDate\.now\b|\bnew Date\(\)/.test(texts[at] ?? ''))
  t.deepEqual(reading.sort(), Object.keys(ownClocks).sort())
})

test('Token Binding of the engine is one folder and one entry of its extensions', (t) => {
  const folder = 'src/engine/token-binding/'
  const users = all.filter(({ from, to }) => to.startsWith(folder) && !from.startsWith(folder))
  t.deepEqual(users, [
    { from: 'src/engine/extensions.ts', to: 'src/engine/token-binding/token-binding.ts' },
  ])
})

/** What is known of a request without having been handed over, and what of the engine is replaced. */
const hidden = {
  'new AsyncLocalStorage': { 'src/http/client-info.ts': 1 },
  "from 'oidc-provider/lib/helpers/re_render_errors.js'": {
    'src/engine/device-codes.ts': 1,
    'src/engine/device-pages.ts': 1,
  },
  "from 'oidc-provider/lib/helpers/weak_cache.js'": {
    'src/engine/dpop-nonces.ts': 1,
    'src/engine/engine-keys.ts': 1,
    'src/engine/engine-nonces.ts': 1,
    'src/engine/jwt-times.ts': 1,
  },
  '  override(\n': {
    'src/engine/backchannel-requests.ts': 1,
    'src/engine/browser-state.ts': 2,
    'src/engine/device-codes.ts': 1,
    'src/engine/pushed-requests.ts': 2,
    'src/engine/replay-detection.ts': 1,
    'src/engine/session-claims.ts': 1,
    'src/engine/session-model.ts': 1,
    'src/engine/token-binding/userinfo.ts': 1,
  },
}

test('has one ambient store, two private modules of the engine, and ten overrides of its models', async (t) => {
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  for (const [text, expected] of Object.entries(hidden)) {
    const counts = files.map((file, at) => [file, (texts[at] ?? '').split(text).length - 1])
    t.deepEqual(Object.fromEntries(counts.filter(([, count]) => count !== 0)), expected, text)
  }
})

test('only the checks of the token endpoint say that a check has passed', async (t) => {
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  const claim =
    /^(?!\s*(?:\/?\*|\/\/)).*\b(?:as|is)\b.*\b(?:Witness|Committed|DecidedKeys|Redeemable)\b/m
  t.deepEqual(files.filter((_, at) => claim.test(texts[at] ?? '')).sort(), [
    'src/token-endpoint/authorization-code.ts',
    'src/token-endpoint/checks.ts',
    'src/token-endpoint/commit.ts',
    'src/token-endpoint/token-keys.ts',
  ])
})
