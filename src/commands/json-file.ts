import { readFile } from 'node:fs/promises'
import { CommandError } from './command.ts'

/**
 * The JSON of a file; undefined for text that is not JSON, because the words of the parser would
 * quote a file that may be a key.
 */
export async function readJsonFile(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch(({ code }: NodeJS.ErrnoException) => {
    throw new CommandError(`${file} cannot be read (${code}).`)
  })
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
