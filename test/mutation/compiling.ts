import path from 'node:path'
import ts from 'typescript'
import type { Mutant } from './guards.ts'
import { root } from './suites.ts'

/** Those mutants of a file that still compile: types have found the others. */
export function compilingMutants(
  file: string,
  text: string,
  mutants: readonly Mutant[],
): readonly Mutant[] {
  if (mutants.length === 0) return []
  const { config } = ts.readConfigFile(path.join(root, 'tsconfig.base.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const virtual = new Map(
    mutants.map((mutant, at) => [
      file.replace(/\.ts$/, `.mutant-${at}.ts`),
      text.slice(0, mutant.start) + mutant.replacement + text.slice(mutant.end),
    ]),
  )
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists } = host
  host.readFile = (name) => virtual.get(name) ?? readFile(name)
  host.fileExists = (name) => virtual.has(name) || fileExists(name)
  const program = ts.createProgram([...virtual.keys()], options, host)
  // What is unused or not reached after the change is no error that keeps it out.
  const harmless = new Set([6133, 6192, 6198, 7027])
  const names = [...virtual.keys()]
  return mutants.filter((_, at) => {
    const source = program.getSourceFile(names[at] ?? '')
    return !program.getSemanticDiagnostics(source).some(({ code }) => !harmless.has(code))
  })
}
