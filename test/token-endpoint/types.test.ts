import { readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import ts from 'typescript'

/*
 * What must not compile. One program reads the mistakes of mistakes.ts, and each grant once for each
 * of its checks, without that check.
 */

const root = path.resolve(import.meta.dirname, '../..')
const folder = path.join(root, 'src/token-endpoint')
const mistakes = path.join(import.meta.dirname, 'mistakes.ts')

/** The grants, and those of their checks that are about no binding and that no type asks for. */
const grants: Readonly<Record<string, readonly (string | undefined)[]>> = {
  'authorization-code': ['redirect_uri_mismatch'],
  'client-credentials': ['details_not_granted', 'scope_forbidden', 'scope_forbidden'],
  // Of its two checks of the session, the one of the session in which the person said yes.
  'device-code': ['session_ended', 'authorization_pending', 'device_denied'],
  'refresh-token': ['scope_exceeds'],
}

interface Variant {
  readonly file: string
  /** The reason that the check refuses for; undefined where another function names it. */
  readonly without: string | undefined
  readonly text: string
}

/** A grant without one of the checks of its `decide`, for each of them. */
function variantsOf(grant: string, text: string): Variant[] {
  const source = ts.createSourceFile(grant, text, ts.ScriptTarget.Latest, true)
  const checks: ts.IfStatement[] = []
  function visit(node: ts.Node): void {
    if (ts.isMethodDeclaration(node) && node.name.getText() === 'decide') {
      checks.push(...(node.body?.statements.filter(ts.isIfStatement) ?? []))
    }
    node.forEachChild(visit)
  }
  visit(source)
  return checks.map((check, at) => ({
    file: path.join(folder, `${grant}.without-${at}.ts`),
    without: /refuse\('(\w+)'/.exec(check.thenStatement.getText())?.[1],
    text: text.slice(0, check.getStart()) + text.slice(check.getEnd()),
  }))
}

const texts = Object.keys(grants).map(async (grant) => ({
  grant,
  variants: variantsOf(grant, await readFile(path.join(folder, `${grant}.ts`), 'utf8')),
}))
const broken = await Promise.all(texts)

const { config } = ts.readConfigFile(path.join(root, 'tsconfig.base.json'), ts.sys.readFile)
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
const virtual = new Map(
  broken.flatMap(({ variants }) => variants.map((one) => [one.file, one.text])),
)
const host = ts.createCompilerHost(options)
const { readFile: read, fileExists } = host
host.readFile = (file) => virtual.get(file) ?? read(file)
host.fileExists = (file) => virtual.has(file) || fileExists(file)
const program = ts.createProgram([mistakes, ...virtual.keys()], options, host)

function errorsOf(file: string): readonly ts.Diagnostic[] {
  const source = program.getSourceFile(file)
  // What was imported for a check alone is no error here.
  const unused = 6133
  return program.getSemanticDiagnostics(source).filter(({ code }) => code !== unused)
}

test('every mistake brings its error at its line, and nothing else does', async (t) => {
  const lines = (await readFile(mistakes, 'utf8')).split('\n')
  const expected = lines.flatMap((line, at) => {
    const [, code] = / \/\/ TS(\d+)$/.exec(line) ?? []
    return code === undefined ? [] : [`${at + 1}: ${code}`]
  })
  const found = errorsOf(mistakes).map(({ file, start = 0, code }) => {
    const line = file?.getLineAndCharacterOfPosition(start).line ?? 0
    return `${line + 1}: ${code}`
  })
  t.true(expected.length > 10)
  t.deepEqual(found, expected)
})

for (const { grant, variants } of broken) {
  test(`${grant} does not compile without a check`, (t) => {
    const compiling = variants.filter(({ file }) => errorsOf(file).length === 0)
    t.true(variants.length >= 3)
    t.deepEqual(
      compiling.map(({ without }) => without),
      grants[grant],
    )
  })
}
