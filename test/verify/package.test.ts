import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { publint } from 'publint'
import { temporaryFolder } from '../support/verify/folder.ts'
import { installAlone, installedEnvironment, packVerify, run } from '../support/verify/package.ts'
import { packedProgram } from '../support/verify/packed-program.ts'

const folder = await temporaryFolder()
const archive = await packVerify(folder.path)
test.after.always(() => folder[Symbol.asyncDispose]())

/** Every value the package exports, so that none comes or goes by accident. */
const exports = {
  '.': [
    ...['ClientCertificateError', 'ProofKeys', 'VerifyError', 'certificateHeaderFormats'],
    ...['confirmCertificate', 'confirmTokenBinding', 'createDPoPNonces', 'createIdTokenVerifier'],
    ...['createMemoryReplayStore', 'createVerifier', 'metadataUrl', 'parseConfirmation'],
    ...['readClientCertificateHeader', 'replayKey', 'socketCertificate', 'verifyDPoPProof'],
    'verifyErrorCodes',
  ],
  './node': ['nodeRequest', 'nodeVerify', 'writeAnswer', 'writeHeaders'],
  './koa': ['koaVerify'],
  './express': ['expressVerify'],
  './fastify': ['fastifyVerify'],
  './fetch': ['fetchVerify'],
  './redis': ['createRedisReplayStore'],
  './token-binding': [
    ...['TokenBindingError', 'createTokenBindingVerifier', 'fieldValues', 'parseTokenBindingId'],
    'verifyTokenBinding',
  ],
  './token-binding-headers': ['forwardTokenBinding', 'readTokenBindingHeaders'],
  './token-binding-login': [
    ...['beginTokenBoundLogin', 'finishTokenBoundLogin', 'includeReferredTokenBindingId'],
  ],
  './postgres': ['createPostgresReplayStore', 'postgresReplayTable'],
  './ticket': ['createLeases', 'createTickets'],
  './ticket/ws': ['upgradeWithTicket'],
  './ticket/events': ['beginEvents'],
  './mcp': ['createMcpGuard'],
  './gate': ['createGateVerifier', 'signGateRequest'],
}

test('works when packed and installed alone', async (t) => {
  await installAlone(archive, folder.path)
  const installed = await readdir(join(folder.path, 'node_modules'))
  t.deepEqual(installed.filter((name) => !name.startsWith('.')).sort(), ['@holdfast', 'jose'])

  await writeFile(join(folder.path, 'program.js'), packedProgram)
  const { stdout } = await run(process.execPath, ['program.js'], {
    cwd: folder.path,
    env: installedEnvironment(),
  })
  const { methods, again, exported } = JSON.parse(stdout)
  t.deepEqual(methods, ['dpop'])
  t.is(again, 'dpop_replayed')
  t.deepEqual(exported, exports)
})

test('holds what it needs and nothing else', async (t) => {
  const { stdout } = await run('tar', ['-tzf', archive])
  const files = stdout.trim().split('\n')
  const others = files.filter(
    (file) => !/^package\/dist\/(?:lib\/)?[\w-]+\.(?:js|d\.ts)$/.test(file),
  )
  t.deepEqual(others.sort(), ['package/LICENSE', 'package/README.md', 'package/package.json'])
  const sources = await readdir('packages/verify', { recursive: true })
  const modules = sources.filter((file) => /^(?:lib\/)?[\w-]+\.ts$/.test(file))
  t.is(files.filter((file) => file.endsWith('.js')).length, modules.length)
})

test('is clean by publint', async (t) => {
  const bytes = await readFile(archive)
  const tarball = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  const { messages } = await publint({ pack: { tarball } })
  t.deepEqual(messages, [])
})

test('resolves by attw for every consumer, by old rules of resolution as well', async (t) => {
  await t.notThrowsAsync(run('npx', ['attw', archive, '--ignore-rules', 'cjs-resolves-to-esm']))
})
