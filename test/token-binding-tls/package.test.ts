import { execFile } from 'node:child_process'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import anyTest from 'ava'
import { platformName } from '../../packages/token-binding-tls/native.ts'
import { temporaryFolder } from '../support/verify/folder.ts'
import { installAlone, installedEnvironment } from '../support/verify/package.ts'
import { certificate, skipped } from './support.ts'

const test = skipped ? anyTest.skip : anyTest
const run = promisify(execFile)

const program = `
import https from 'node:https'
import { equip, TokenBindingAgent, tokenBindingOf } from '@holdfast/token-binding-tls'

const [cert, key] = ${JSON.stringify([certificate.cert, certificate.key])}
const server = equip(() => https.createServer({ cert, key }, (request, response) => {
  const { negotiated } = tokenBindingOf(request.socket)
  response.end(negotiated + ' ' + request.headers['sec-token-binding'].length)
}))
server.listen(0, '127.0.0.1', () => {
  const agent = new TokenBindingAgent({ ca: cert })
  https.get({ port: server.address().port, host: '127.0.0.1', agent }, async (response) => {
    console.log((await response.toArray()).join(''))
    server.close()
  })
})
`

test('works when packed with a prebuild and installed alone', async (t) => {
  await using folder = await temporaryFolder()
  const { stdout: packed } = await run('npm', [
    'pack',
    '--json',
    '--workspace=@holdfast/token-binding-tls',
    `--pack-destination=${folder.path}`,
  ])
  const [details] = Object.values(JSON.parse(packed.slice(packed.search(/^[[{]/m)))) as [
    { filename: string; files: { path: string }[] },
  ]
  const paths = details.files.map(({ path }) => path)
  t.true(paths.includes('token-binding-tls.c'))
  t.false(
    paths.some((path) => /(^|[^d])\.ts$|build/.test(path)),
    paths.join(),
  )

  await installAlone(join(folder.path, details.filename), folder.path)
  const installed = join(folder.path, 'node_modules/@holdfast/token-binding-tls')
  await mkdir(join(installed, 'prebuilds', platformName()), { recursive: true })
  await copyFile(
    fileURLToPath(
      new URL('../../packages/token-binding-tls/build/token-binding-tls.node', import.meta.url),
    ),
    join(installed, 'prebuilds', platformName(), 'token-binding-tls.node'),
  )
  await writeFile(join(folder.path, 'program.js'), program)
  const { stdout } = await run(process.execPath, ['program.js'], {
    cwd: folder.path,
    env: installedEnvironment(),
  })
  t.is(stdout.trim(), 'ecdsap256 186')
})
