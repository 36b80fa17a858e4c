// Everything that a README or a page of docs shows is run, or is a part of a program that is run.
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Command } from 'commander'
import { createProgram as createGateProgram } from '../../packages/gate/program.ts'
import { createProgram } from '../../src/commands/program.ts'
import { ConfigError, parseConfig } from '../../src/config/config.ts'
import { createAuthority } from '../support/certificates.ts'
import { useCommandLine } from '../support/cli.ts'
import { openTestDatabase } from '../support/database.ts'
import { useFolder } from '../support/folder.ts'
import { type Block, blocksOf, pages, readText, root } from '../support/markdown.ts'

const folder = useFolder(test)
const holdfast = useCommandLine(test)
const authority = path.join(folder, 'clients.pem')
test.before(async () => writeFile(authority, (await createAuthority()).cert))
const people = path.join(folder, 'people.jsonl')
test.before(() => writeFile(people, `${JSON.stringify({ email: 'eve@example.com' })}\n`))

const { scripts } = JSON.parse(readText('package.json'))
const tests = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts') || name === 'verify/frameworks.ts')
  .map((name) => readText(path.join('test', name)))

for (const page of pages()) {
  test.serial(`shows what works: ${page}`, async (t) => {
    const text = readText(page)
    const blocks = blocksOf(text)
    t.is(blocks.length * 2, text.match(/^ *```/gm)?.length ?? 0, 'a block that is not read')
    const shell: Shown[] = []
    for (const block of blocks) {
      if (block.directive?.startsWith('excerpt: ')) checkExcerpt(t, block)
      else if (block.language === 'console') shell.push(...commandsOf(block.text))
      else if (block.language === 'sql') checkSql(t, page)
      else checkData(t, block)
    }
    await checkCommands(t, shell)
    t.pass()
  })
}

/** The text is in the file, in this order; a line `// …` stands for what is left out. */
function checkExcerpt(t: ExecutionContext, { directive, text }: Block): void {
  const file = directive?.replace('excerpt: ', '') ?? ''
  const isRun = tests.some((source) => source.includes(path.basename(file)))
  t.true(isRun || file.startsWith('test/'), `not run: ${file}`)
  let rest = flat(readText(file))
  for (const part of text.split(/^ *(?:\/\/|#) …\n/m)) {
    const wanted = flat(part).trim()
    const at = rest.indexOf(wanted)
    t.true(at >= 0, `not in ${file}:\n${part}`)
    rest = rest.slice(at + wanted.length)
  }
}

/** A test reads it from the page, and runs it. */
function checkSql(t: ExecutionContext, page: string): void {
  const isRun = tests.some((source) => source.includes(page) && source.includes('```sql'))
  t.true(isRun, `not run: the SQL of ${page}`)
}

/** Lines without their indentation, which is another one in a function. */
const flat = (text: string) => text.replaceAll(/^[ \t]+|[ \t]+$/gm, '')

function checkData(t: ExecutionContext, { language, text }: Block): void {
  if (language === 'json') t.notThrows(() => JSON.parse(text))
  else if (language === 'env') {
    const lines = text.split('\n').filter((line) => /^[A-Z]/.test(line))
    checkConfig(t, Object.fromEntries(lines.map(assignment)))
  } else t.is(language, 'floors', `a block that is no excerpt:\n${text}`)
}

const assignment = (text: string): readonly [string, string] => {
  const [, name = '', value = ''] = /^(\w+)='?(.*?)'?$/.exec(text) ?? []
  return [name, value] as const
}

/** What the files of secrets hold. */
const readFile = (file: string) =>
  file.includes('database')
    ? 'postgresql://holdfast:pass@db.example.com/holdfast'
    : 'a secret of at least 32 characters'

function checkConfig(t: ExecutionContext, environment: Record<string, string>): void {
  try {
    parseConfig(environment, { readFile })
  } catch (error) {
    t.fail(error instanceof ConfigError ? error.problems.join('\n') : String(error))
  }
}

interface Shown {
  readonly typed: string
  readonly output: string
}

function commandsOf(text: string): Shown[] {
  const parts = text.replaceAll('\\\n', ' ').split(/^\$ /m)
  return parts.slice(1).map((part) => {
    const [typed = '', ...output] = part.split('\n')
    return { typed: typed.replace(/ +# .*$/, ''), output: output.join('\n').trim() }
  })
}

/** Programs of others: that they are called as their manuals say is not tested. */
const others =
  /^(git|curl|cat|cp|pg_dump|pg_restore|psql|docker|kubectl|openssl|systemctl|gh|sudo|install)$/

async function checkCommands(t: ExecutionContext, shown: readonly Shown[]): Promise<void> {
  await using opened = new AsyncDisposableStack()
  let environment: Record<string, string> | undefined
  for (const { typed, output } of shown) {
    for (const part of typed.split(/ (?:&&|\|) /)) {
      const words = wordsOf(part)
      const settings = words.splice(
        0,
        words.findIndex((word) => !/^[A-Z_]+=/.test(word)),
      )
      checkConfig(t, Object.fromEntries(settings.map(assignment)))
      if (words[0] === 'holdfast-gate') {
        parse(t, words.slice(1), createGateProgram)
        continue
      }
      const args = argumentsOf(words)
      if (args === undefined) t.true(isKnown(words), typed)
      else if (!canRun(args)) parse(t, args)
      else {
        environment ??= environmentOf(opened.use(await openTestDatabase()).url)
        const { code, stdout, stderr } = await holdfast({ cwd: folder, env: environment }, args)
        t.is(code, 0, `${typed}\n${stderr}`)
        if (output) t.is(masked(stdout.trim()), masked(output), typed)
      }
    }
  }
}

const environmentOf = (databaseUrl: string) => ({
  DATABASE_URL: databaseUrl,
  HOLDFAST_DATA: folder,
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_ADMIN_API: 'on',
  HOLDFAST_MTLS_PORT: '9444',
  HOLDFAST_CLIENT_CA_FILE: authority,
  HOLDFAST_REGISTRATION: 'on',
  HOLDFAST_SECRET: 'a secret of at least 32 characters',
})

/** What is another one each time: secrets, ids, times. */
const masked = (text: string) =>
  text
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z|\d{4}-\d\d-\d\d \d\d:\d\d/g, 'TIME')
    .replaceAll(/[\w-]{20,}/g, 'VALUE')

/** Words as a shell reads them; redirections are left out. */
function wordsOf(text: string): string[] {
  const words = text.replaceAll(/ \d?>>? \S+/g, '').matchAll(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g)
  return [...words].map(([word]) => word.replaceAll(/['"]/g, ''))
}

/** The arguments of `holdfast`, in whatever way it is called. */
function argumentsOf(words: readonly string[]): string[] | undefined {
  const called = /^(?:npx )?holdfast(?: |$)|^npm run holdfast -- /.exec(words.join(' '))
  return called ? words.slice(called[0].trim().split(' ').length) : undefined
}

/** Not with placeholders, files that are not here, or a server that runs on. */
function canRun(args: readonly string[]): boolean {
  const line = args.join(' ')
  return !/^(serve|doctor --|proof)|\$|--follow|\.(json|pem|jwk)\b|(^| )[A-Z][A-Z_]+\b/.test(line)
}

function parse(t: ExecutionContext, args: readonly string[], create = createProgram): void {
  let problem = ''
  const program = create({
    write: () => {},
    writeError: (text) => {
      problem += text
    },
  })
  for (const each of withSubcommands(program)) each.action(() => {})
  t.notThrows(() => program.parse(args, { from: 'user' }), `${args.join(' ')}\n${problem}`)
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)]
}

function isKnown(words: readonly string[]): boolean {
  const [program = '', first = '', second = ''] = words
  const exists = (file: string) => existsSync(path.join(root, file))
  switch (`${program} ${first}`) {
    case 'npm run':
      return second in scripts
    case 'npm test':
      return words.filter((word) => word.startsWith('test/')).every(exists)
    case 'npx node':
      return exists(second)
  }
  if (program === 'npm') return /^(ci|start|install|pack|version|audit)$/.test(first)
  if (program === 'npx') return exists(`node_modules/.bin/${first}`)
  return program.startsWith('.') ? exists(program) : others.test(program)
}
