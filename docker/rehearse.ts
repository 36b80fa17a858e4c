/**
 * Performs the steps of the Dockerfile in a clean folder, and starts what comes of it as the image
 * would: as another user than root where that is possible, with nothing of the folder writable. For
 * machines without a container engine; it does not test the base image.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { freePort } from '../src/net/free-port.ts'
import { openTestDatabase } from '../test/support/database.ts'

const root = path.resolve(import.meta.dirname, '..')
const stages = readFileSync(path.join(root, 'docker/Dockerfile'), 'utf8')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n/g, ' ')
  .split(/^FROM .*$/m)
const [, build = '', final = ''] = stages

function instructions(stage: string, name: string): string[] {
  return [...stage.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, text = '']) => text.trim())
}

function steps(stage: string): [step: string, text: string][] {
  return [...stage.matchAll(/^(COPY|RUN) (.*)$/gm)].map(([, step = '', text = '']) => [step, text])
}

const [, ...allowed] = readFileSync(path.join(root, '.dockerignore'), 'utf8').split(/^!/m)

/** A file, or a folder with what git has of it. */
function copy(paths: string[]): void {
  const target = path.join(folder, paths.at(-1) ?? '')
  for (const source of paths.slice(0, -1)) {
    const isAllowed = allowed.some((name) => `${source}/`.startsWith(`${name.split('\n')[0]}/`))
    if (!isAllowed) throw new Error(`.dockerignore keeps ${source} out`)
    const isFile = statSync(path.join(root, source)).isFile()
    const files = isFile
      ? `cp ${source} '${target}'`
      : `git ls-files -z ${source} | xargs -0 tar c | tar x -C '${folder}'`
    shell(`mkdir -p '${target}' && ${files}`, root)
  }
}

const folder = mkdtempSync(path.join(tmpdir(), 'holdfast-image-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const shell = (command: string, cwd = folder) =>
  execFileSync('sh', ['-euc', command], { cwd, stdio: 'inherit' })

for (const [step, text] of steps(build)) {
  console.log(`${step} ${text}`)
  if (step === 'RUN') shell(text)
  else copy(text.split(/\s+/))
}
const [workFolder = ''] = instructions(build, 'WORKDIR')
const [from = ''] = instructions(final, 'COPY --from=build')
const app = path.join(folder, path.relative(workFolder, from.split(/\s+/)[0] ?? ''))
chmodSync(folder, 0o755)
shell('chmod -R a+rX,a-w .', app)
console.log(`${execFileSync('du', ['-sm', app], { encoding: 'utf8' }).split('\t')[0]} MB`)

const environment = Object.fromEntries(
  instructions(final, 'ENV').flatMap((text) => text.split(/\s+/).map((pair) => pair.split('='))),
)
const [entry, command] = ['ENTRYPOINT', 'CMD'].map(
  (name) => JSON.parse(instructions(final, name).at(-1) ?? '[]') as string[],
)
const [port, metrics] = [await freePort(), await freePort()]
await using database = await openTestDatabase()
const [, ...args] = [...(entry ?? []), ...(command ?? [])]
const asUser = process.getuid?.() === 0 ? { uid: 1000, gid: 1000 } : {}
const server = spawn(process.execPath, args, {
  cwd: app,
  ...asUser,
  stdio: ['ignore', 'inherit', 'inherit'],
  env: {
    PATH: process.env.PATH,
    ...environment,
    HOLDFAST_ISSUER: 'https://id.example.com',
    HOLDFAST_TRUSTED_PROXIES: '127.0.0.1',
    HOLDFAST_SECRET: 'a secret of the rehearsal, and of nothing else',
    HOLDFAST_PORT: String(port),
    HOLDFAST_METRICS: `127.0.0.1:${metrics}`,
    DATABASE_URL: database.url,
  },
})
const exited = once(server, 'exit')
const isReady = async () =>
  (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.ok === true
for (let tries = 0; !(await isReady()); tries += 1) {
  if (tries === 300 || server.exitCode !== null) throw new Error('the server did not become ready')
  await setTimeout(200)
}
const health = (
  JSON.parse(
    /CMD (\[.*\])/.exec(instructions(final, 'HEALTHCHECK')[0] ?? '')?.[1] ?? '[]',
  ) as string[]
)
  .slice(1)
  .map((text) => text.replace(':9464', `:${metrics}`))
execFileSync(process.execPath, health, { stdio: 'inherit' })
server.kill('SIGTERM')
const [code] = await exited
if (code !== 0) throw new Error(`the server ended with ${code}`)
console.log(`Every step was performed; the server became ready, healthy and ended in order.`)
