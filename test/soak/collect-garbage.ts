/*
 * Loaded into the nodes of a soak. One that is told to, by SIGUSR2, collects its garbage and writes
 * what it holds then, in bytes: a moment later there is garbage again. The file is named in the
 * address: `collect-garbage.ts?file=/tmp/held`.
 */
import { renameSync, writeFileSync } from 'node:fs'

const file = new URL(import.meta.url).searchParams.get('file') ?? ''

process.on('SIGUSR2', () => {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  // Whole or not at all.
  writeFileSync(`${file}.new`, String(heapUsed + external))
  renameSync(`${file}.new`, file)
})
