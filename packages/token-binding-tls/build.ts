import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { platformName } from './native.ts'

/*
 * Compiles the native part with one call of the C compiler: no node-gyp, no Python, no network.
 * CC names another compiler, CFLAGS adds to its arguments. With --prebuild the result goes where
 * the published package has it; made on an old glibc, it runs on the newer ones.
 */

const folder = new URL('.', import.meta.url)
const source = fileURLToPath(new URL('token-binding-tls.c', folder))
const isPrebuild = process.argv.includes('--prebuild')
const target = new URL(isPrebuild ? `prebuilds/${platformName()}/` : 'build/', folder)
const output = fileURLToPath(new URL('token-binding-tls.node', target))
const headers = fileURLToPath(
  new URL('include/', import.meta.resolve('node-api-headers/package.json')),
)

const compiler = process.env.CC ?? 'gcc'
const linking =
  process.platform === 'darwin'
    ? ['-bundle', '-undefined', 'dynamic_lookup']
    : // OpenSSL keeps pointers to the callbacks: the library must stay where it is.
      ['-shared', '-Wl,-z,nodelete', '-Wl,-z,relro', '-Wl,-z,now', '-ldl', '-pthread']

mkdirSync(target, { recursive: true })
const { status, error } = spawnSync(
  compiler,
  [
    ...['-std=gnu11', '-O2', '-fPIC', '-fvisibility=hidden', '-fstack-protector-strong'],
    ...['-Wall', '-Wextra', '-Werror'],
    ...(process.env.CFLAGS?.split(' ') ?? []),
    ...['-isystem', headers, '-o', output, source],
    ...linking,
  ],
  { stdio: 'inherit' },
)
if (error) {
  process.stderr.write(`Cannot run the C compiler "${compiler}": ${error.message}\n`)
  process.stderr.write('Install one (Debian: apt-get install gcc libc6-dev) or name it in CC.\n')
}
process.exitCode = status ?? 1
