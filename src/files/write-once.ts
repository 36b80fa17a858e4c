import { randomBytes } from 'node:crypto'
import { link, rm, writeFile } from 'node:fs/promises'

/**
 * Writes a private file unless it is there. Of any number of processes one writes it; nobody ever
 * reads a part of it, and a crash leaves all or nothing.
 */
export async function writeOnce(file: string, text: string): Promise<void> {
  const partial = `${file}-${randomBytes(6).toString('hex')}`
  try {
    await writeFile(partial, text, { mode: 0o600, flag: 'wx', flush: true })
    // Unlike rename, link does not replace what is there.
    await link(partial, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await rm(partial, { force: true })
  }
}
