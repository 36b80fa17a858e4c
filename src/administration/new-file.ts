import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AdministrationError } from './administration-error.ts'

/**
 * Writes a new file that only its owner can read, as its text comes. A part of it looks like all of
 * it: when something fails, the file is removed.
 *
 * @throws AdministrationError where the file exists or cannot be made.
 */
export async function writeNewFile(file: string, chunks: AsyncIterable<string>): Promise<void> {
  const output = createWriteStream(file, { flags: 'wx', mode: 0o600, flush: true })
  await pipeline(Readable.from(chunks), output).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') throw existsAlready(file)
    if (error.syscall === 'open') {
      throw new AdministrationError('invalid_request', `${file} cannot be written (${error.code}).`)
    }
    throw await withoutFile(file, error)
  })
}

/** Removes a file, and returns the error for which it is removed. */
export async function withoutFile(file: string, error: unknown): Promise<unknown> {
  await rm(file, { force: true })
  return error
}

export function existsAlready(file: string): AdministrationError {
  return new AdministrationError('conflict', `${file} exists already. Choose another name.`)
}
