/**
 * `npm run test:package`: the package as others get it, packed, installed in an empty folder without
 * install scripts, and started on the lowest Node that it promises, as an ordinary user; and a clone
 * without development dependencies, started by `npm start`.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { styleText } from 'node:util'
import { Agent, fetch } from 'undici'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { version } from '../../src/config/version.ts'
import { makeProof } from '../../src/doctor/proof.ts'
import { freePort } from '../../src/net/free-port.ts'
import { newKey } from '../support/flow.ts'
import { installNode } from '../support/node-version.ts'
import { until } from '../support/until.ts'
import { temporaryFolder } from '../support/verify/folder.ts'

const root = path.resolve(import.meta.dirname, '../..')
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  engines: { node: string }
  devDependencies: Record<string, string>
}
const lowest = manifest.engines.node.replace('>=', '')
const isRoot = process.getuid?.() === 0
const idOf = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
const ordinaryUser = isRoot ? { uid: idOf('-u'), gid: idOf('-g') } : {}
const npmOptions = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']
// npm adds folders of this repository.
const systemPath = (process.env.PATH ?? '').split(':').filter((each) => !each.startsWith(root))

/** What a shell outside of the repository has, with this Node before any other. */
function environment(node: string, home = process.env.HOME ?? ''): Record<string, string> {
  return { PATH: [path.dirname(node), ...systemPath].join(':'), HOME: home }
}

function npm(node: string, cwd: string, args: readonly string[]): void {
  execFileSync('npm', [...args, ...npmOptions], { cwd, env: environment(node), stdio: 'inherit' })
}

function giveToOrdinaryUser(folder: string): void {
  if (isRoot) execFileSync('chown', ['-R', `${ordinaryUser.uid}:${ordinaryUser.gid}`, folder])
}

/** Packs the package and returns the path of the archive. */
function pack(folder: string): string {
  const args = ['pack', '--json', '--loglevel=error', `--pack-destination=${folder}`]
  const stdout = execFileSync('npm', args, { cwd: root, encoding: 'utf8' })
  const [packed] = Object.values(JSON.parse(stdout.slice(stdout.search(/^[[{]$/m))))
  return path.join(folder, (packed as { filename: string }).filename)
}

/** Expects each source as JavaScript with its map, each file beside the sources, and nothing else. */
function checkFiles(archive: string): void {
  const list = execFileSync('tar', ['-tzf', archive], { encoding: 'utf8' })
  const files = list
    .trim()
    .replaceAll(/^package\//gm, '')
    .split('\n')
  const dist = files.filter((file) => file.startsWith('dist/')).map((file) => file.slice(5))
  const sources = readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.d.ts'))
    .map((entry) => path.relative(path.join(root, 'src'), path.join(entry.parentPath, entry.name)))
  const expected = sources.flatMap((file) => {
    if (!file.endsWith('.ts')) return [file]
    const script = file.replace(/ts$/, 'js')
    return [script, `${script}.map`]
  })
  assert.deepEqual(dist.sort(), expected.sort())

  const migrations = readdirSync(path.join(root, 'migrations')).map((name) => `migrations/${name}`)
  const fixed = ['.env.example', 'CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']
  const bin = ['bin/heap-limits.cjs', 'bin/holdfast.cjs']
  const others = files.filter((file) => !/^(dist|docs|node_modules)\//.test(file))
  assert.deepEqual(others.sort(), [...fixed, ...bin, ...migrations].sort())
  const bundled = files.map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1])
  assert.deepEqual([...new Set(bundled)].filter((name) => name !== undefined).sort(), [
    '@holdfast/token-binding-tls',
    '@holdfast/verify',
    'jose',
    'tldts',
    'tldts-core',
  ])
}

function checkNoDevelopmentPackages(folder: string): void {
  const installed = Object.keys(manifest.devDependencies)
    // Types of other packages are dependencies of theirs.
    .filter((name) => !name.startsWith('@types/') && name !== 'yaml')
    .filter((name) => existsSync(path.join(folder, 'node_modules', name)))
  assert.deepEqual(installed, [])
}

interface Started {
  readonly child: ChildProcess
  readonly output: () => string
  /** The value of a line of the welcome. */
  readonly printed: (name: string) => string
}

/** Starts a server with its default settings as an ordinary user, and waits until it is ready. */
async function start(
  node: string,
  cwd: string,
  command: readonly [string, ...string[]],
): Promise<Started> {
  const port = String(await freePort())
  const [file, ...args] = command
  const child = spawn(file, args, {
    cwd,
    ...ordinaryUser,
    env: { ...environment(node, cwd), HOLDFAST_PORT: port },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk
    })
  }
  await until(async () => {
    assert.equal(child.exitCode, null, output)
    return output.includes('Ctrl-C')
  }, 120_000)
  return {
    child,
    output: () => output,
    printed: (name) => new RegExp(`^ +${name} +(\\S+)`, 'm').exec(output)?.[1] ?? '',
  }
}

/** Sends SIGTERM to what was started, and expects that nothing of it is left. */
async function end({ child, output }: Started, data: string): Promise<void> {
  const closed = once(child, 'close')
  child.kill('SIGTERM')
  await closed
  assert.match(output(), /Finishing requests\.\n$/)
  assert.equal(existsSync(path.join(data, 'postgres/postmaster.pid')), false)
}

/** Registers a client and an API by the installed command, and gets a DPoP-bound token. */
async function issueToken(node: string, cwd: string, { printed }: Started): Promise<string> {
  const holdfast = (...args: string[]) =>
    execFileSync('npx', ['holdfast', ...args, '--json'], {
      cwd,
      ...ordinaryUser,
      env: environment(node, cwd),
      encoding: 'utf8',
    })
  const client = JSON.parse(
    holdfast('clients', 'add', 'service', '--grant', 'client_credentials'),
  ) as { client_secret: string }
  const api = 'https://api.example.com'
  holdfast('resources', 'add', api, '--scope', 'read')
  const url = `${printed('Issuer')}/token`
  const authority = printed('Trust').replace('NODE_EXTRA_CA_CERTS=', '')
  const response = await fetch(url, {
    method: 'POST',
    dispatcher: new Agent({ connect: { ca: readFileSync(authority) } }),
    headers: {
      authorization: `Basic ${Buffer.from(`service:${client.client_secret}`).toString('base64')}`,
      dpop: await makeProof(await newKey(), { method: 'POST', url }),
    },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource: api, scope: 'read' }),
  })
  const answer = (await response.json()) as { token_type: string; error_description?: string }
  assert.equal(response.status, 200, answer.error_description)
  return answer.token_type
}

/** What git has of the working folder, as a clone would. */
function clone(folder: string): void {
  const list = 'git ls-files -z --cached --others --exclude-standard'
  execFileSync(
    'sh',
    ['-c', `${list} | tar c --null -T - --ignore-failed-read | tar x -C "$0"`, folder],
    {
      cwd: root,
    },
  )
}

const seconds = (sinceMs: number) => `${Math.round((performance.now() - sinceMs) / 1000)} s`
const passed = (what: string) => process.stdout.write(`${styleText('green', '✔')} ${what}\n`)
const sizeOf = (folder: string) =>
  `${Math.round(Number(execFileSync('du', ['-sk', folder], { encoding: 'utf8' }).split('\t')[0]) / 1024)} MB`
const countOf = (folder: string, node: string) =>
  execFileSync('npm', ['ls', '--all', '--omit=dev', '--parseable'], {
    cwd: folder,
    env: environment(node),
    encoding: 'utf8',
  })
    .trim()
    .split('\n').length - 1

drawProgressOn(process.stderr)
using progress = showProgress()
const report = (what: string, done: number) => progress.report(what, done, 6)
await using folder = await temporaryFolder()
chmodSync(folder.path, 0o755)

report(`Node ${lowest}`, 0)
const node = await installNode(lowest)
report('Packing', 1)
const archive = pack(folder.path)
checkFiles(archive)
passed('holds the compiled server, its files and its bundled packages, and nothing else')

report('Installing in an empty folder', 2)
const installed = path.join(folder.path, 'installed')
mkdirSync(installed)
writeFileSync(path.join(installed, 'package.json'), '{"private":true}')
const began = performance.now()
npm(node, installed, ['install', '--ignore-scripts', archive])
checkNoDevelopmentPackages(installed)
const facts = `${countOf(installed, node)} packages, ${sizeOf(path.join(installed, 'node_modules'))}`
passed(`installs without development packages (${facts})`)
giveToOrdinaryUser(installed)
report('Starting', 3)
{
  const server = await start(node, installed, ['npx', 'holdfast', 'serve'])
  passed(`is ready on Node ${lowest}, ${seconds(began)} after npm install began`)
  const args = ['holdfast', '--version']
  const shown = execFileSync('npx', args, {
    cwd: installed,
    env: environment(node),
    encoding: 'utf8',
  })
  assert.equal(shown, `${version}\n`)
  assert.equal(await issueToken(node, installed, server), 'DPoP')
  passed('issues a token that is bound to a key')
  await end(server, path.join(installed, 'data'))
  passed('finishes and stops its PostgreSQL on SIGTERM')
}

report('An older Node', 4)
const older = spawnSync('npx', ['holdfast', 'serve'], {
  cwd: installed,
  env: environment(await installNode('20.19.0')),
  encoding: 'utf8',
})
assert.equal(older.status, 1)
assert.match(older.stderr, new RegExp(`^holdfast: Holdfast needs Node ${lowest} or newer`))
passed('says on Node 20 which Node it needs')

report('A clone without development dependencies', 5)
const cloned = path.join(folder.path, 'clone')
mkdirSync(cloned)
clone(cloned)
npm(node, cloned, ['ci', '--omit=dev'])
giveToOrdinaryUser(cloned)
const server = await start(node, cloned, ['npm', 'start'])
await end(server, path.join(cloned, 'data'))
progress.rest()
passed(
  `starts from a clone after npm ci --omit=dev (${countOf(cloned, node)} packages, ${sizeOf(path.join(cloned, 'node_modules'))})`,
)
