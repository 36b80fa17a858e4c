import { type ExecFileException, type ExecFileOptions, execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

// npm asks a registry: what takes longer than this has lost its connection.
const limitMinutes = 5

/** Runs a program and gives what it prints, or says that it took too long. */
export async function run(
  file: string,
  args: readonly string[],
  { timeout = limitMinutes * 60_000, ...options }: ExecFileOptions = {},
) {
  try {
    return await execute(file, args, { ...options, timeout, encoding: 'utf8' })
  } catch (error) {
    if (!(error as ExecFileException).killed) throw error
    const command = [file, ...args].join(' ')
    throw new Error(`"${command}" did not end within ${timeout / 60_000} minutes`, { cause: error })
  }
}

/** Installs packages of a registry; a second time where the first failed. */
export async function npmInstall(packages: readonly string[], folder: string): Promise<void> {
  const options = ['--prefer-offline', '--no-audit', '--no-fund', '--save-exact']
  const install = () => run('npm', ['install', ...options, ...packages], { cwd: folder })
  await install().catch((error: Error) => {
    process.stderr.write(`${error.message}\nTrying once more.\n`)
    return install()
  })
}

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
  await npmInstall([archive], folder)
}
