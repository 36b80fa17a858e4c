#!/usr/bin/env node
import { fstatSync } from 'node:fs'
import { runProgram } from './commands/program.ts'

const toFile = fstatSync(1).isFile()

process.exitCode = await runProgram(process.argv.slice(2), {
  write: (text) => process.stdout.write(text),
  writeError: (text) => process.stderr.write(text),
  // What reads a pipe may draw on the same terminal.
  progress: process.stdout.isTTY || toFile ? process.stderr : undefined,
  toFile,
})
