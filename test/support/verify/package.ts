import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

export const run = promisify(execFile)

/** Builds and packs the library as `npm publish` would, and gives the path of the archive. */
export async function packVerify(folder: string): Promise<string> {
  const { stdout } = await run('npm', [
    'pack',
    '--json',
    '--workspace=@holdfast/verify',
    `--pack-destination=${folder}`,
  ])
  const json = stdout.slice(stdout.search(/^[[{]/m))
  const packed = Object.values(JSON.parse(json))[0] as { filename: string }
  return join(folder, packed.filename)
}

/** Where packages are what they are for others: not their sources. */
export function installedEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, NODE_OPTIONS: '' }
}

/** Installs an archive alone in an otherwise empty folder. */
export async function installAlone(archive: string, folder: string): Promise<void> {
  await writeFile(join(folder, 'package.json'), '{"type":"module","private":true}')
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', archive], {
    cwd: folder,
  })
}
