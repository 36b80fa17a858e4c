import { lstat, readFile, symlink } from 'node:fs/promises'
import path from 'node:path'
import { StorageError } from './storage-error.ts'

interface Link {
  readonly source: string
  readonly target: string
}

/**
 * Makes the links between the libraries of the embedded PostgreSQL that are still missing: npm packages
 * hold no links, and its own install script makes them only where npm runs install scripts.
 * `folder` is that of the package; the links stand in its `pg-symlinks.json`.
 */
export async function linkLibraries(folder: string): Promise<void> {
  const list = path.join(folder, 'native', 'pg-symlinks.json')
  const links = JSON.parse(await readFile(list, 'utf8').catch(() => '[]')) as Link[]
  try {
    await Promise.all(links.map((link) => makeLink(folder, link)))
  } catch (cause) {
    throw new StorageError(
      'database_unusable',
      `The embedded PostgreSQL is not completely installed, and this user cannot write to ${folder}. ` +
        'Start Holdfast once as the owner of that folder, or set DATABASE_URL to a PostgreSQL 15 or newer.',
      { cause },
    )
  }
}

async function makeLink(folder: string, { source, target }: Link): Promise<void> {
  const link = path.join(folder, target)
  try {
    await symlink(path.relative(path.dirname(link), path.join(folder, source)), link)
  } catch (error) {
    const isThere = await lstat(link).catch(() => undefined)
    if (!isThere) throw error
  }
}
