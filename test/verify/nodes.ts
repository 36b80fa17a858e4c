/**
 * `npm run test:nodes`: the packed library, and the attack table, on every Node it promises to
 * run on. npm ships each Node as the package `node`; they are kept for the next time.
 */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { installNode, nodesCache } from '../support/node-version.ts'
import { temporaryFolder } from '../support/verify/folder.ts'
import { installAlone, installedEnvironment, packVerify, run } from '../support/verify/package.ts'
import { packedProgram } from '../support/verify/packed-program.ts'

const env = installedEnvironment()
const versions = ['20.19.0', '22.23.3', '24.21.0']
const compiled = join(nodesCache, 'compiled')

drawProgressOn(process.stderr)
using progress = showProgress()
progress.report('Packing and installing the library', 0, versions.length)
await using folder = await temporaryFolder()
await installAlone(await packVerify(folder.path), folder.path)
await writeFile(join(folder.path, 'program.js'), packedProgram)
await rm(compiled, { recursive: true, force: true })
await run('npx', ['tsc', '-p', 'test/attack/tsconfig.nodes.json', '--outDir', compiled])
await writeFile(join(compiled, 'package.json'), '{"type":"module"}')

let passed = 0
for (const [at, version] of versions.entries()) {
  progress.report(`Node ${version}`, at, versions.length)
  const node = await installNode(version)
  const program = await run(node, ['program.js'], { cwd: folder.path, env })
  const { node: ran, methods, again } = JSON.parse(program.stdout)
  const table = await run(node, [join(compiled, 'test/attack/core.js')], { env })
  const { rows, wrong } = JSON.parse(table.stdout)
  const right =
    ran === `v${version}` && methods.join() === 'dpop' && again === 'dpop_replayed' && rows > 100
  if (right && wrong.length === 0) passed++
  progress.rest()
  process.stdout.write(`Node ${ran}: ${rows - wrong.length} of ${rows} rows of the attack table\n`)
}
process.exitCode = passed === versions.length ? 0 : 1
