import path from 'node:path'
import ts from 'typescript'
import type { Mutant } from './guards.ts'
import { root } from './suites.ts'

/** A mutant, and the whole source in which it is one. */
export interface Changed extends Mutant {
  /** From the root on. */
  readonly file: string
  readonly text: string
}

/** Those that do not compile: types find them. */
export function notCompiling<M extends Changed>(mutants: readonly M[]): readonly M[] {
  if (mutants.length === 0) return []
  const { config } = ts.readConfigFile(path.join(root, 'tsconfig.base.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const virtual = new Map(
    mutants.map(({ file, text, start, end, replacement }, at) => [
      path.join(root, file.replace(/\.ts$/, `.mutant-${at}.ts`)),
      text.slice(0, start) + replacement + text.slice(end),
    ]),
  )
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists } = host
  host.readFile = (name) => virtual.get(name) ?? readFile(name)
  host.fileExists = (name) => virtual.has(name) || fileExists(name)
  const names = [...virtual.keys()]
  const program = ts.createProgram(names, options, host)
  // What is unused or not reached after the change is no error that keeps it out.
  const harmless = new Set([6133, 6192, 6198, 7027])
  return mutants.filter((_, at) => {
    const source = program.getSourceFile(names[at] ?? '')
    return program.getSemanticDiagnostics(source).some(({ code }) => !harmless.has(code))
  })
}
