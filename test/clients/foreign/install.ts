import { execFileSync } from 'node:child_process'
import { cp, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { npmInstall, run } from '../../support/verify/package.ts'
import type { Library } from './libraries.ts'

/** What starts a program that was installed, in its folder. */
export type StartCommand = readonly [file: string, ...args: string[]]

type Installer = (folder: string, packages: readonly [string, string][]) => Promise<StartCommand>

/** Copies the program of a library into a folder, installs what it needs there, and builds it. */
export async function install(library: Library, folder: string): Promise<StartCommand> {
  await cp(path.join(import.meta.dirname, library.folder), folder, { recursive: true })
  return installers[library.registry](folder, Object.entries(library.packages))
}

const exact = (packages: readonly [string, string][], sign: string) =>
  packages.map(([name, version]) => `${name}${sign}${version}`)

const installers: Readonly<Record<Library['registry'], Installer>> = {
  async npm(folder, packages) {
    await writeFile(path.join(folder, 'package.json'), '{"type":"module","private":true}')
    await npmInstall(exact(packages, '@'), folder)
    return [process.execPath, 'app.js']
  },

  async pip(folder, packages) {
    await run('python3', ['-m', 'venv', 'venv'], { cwd: folder })
    const python = path.join(folder, 'venv/bin/python')
    await run(python, ['-m', 'pip', 'install', '--quiet', ...exact(packages, '==')])
    return [python, 'app.py']
  },

  /** A program with its own main.go, or one that is installed whole and configured. */
  async go(folder, packages) {
    const options = { cwd: folder, env: { ...process.env, GOBIN: folder } }
    const sources = await readFile(path.join(folder, 'main.go')).catch(() => undefined)
    if (!sources) {
      await run('go', ['install', ...exact(packages, '@')], options)
      return ['bash', 'start.sh']
    }
    await run('go', ['mod', 'init', 'app'], options)
    await run('go', ['get', ...exact(packages, '@')], options)
    await run('go', ['mod', 'tidy'], options)
    await run('go', ['build', '-o', 'app', '.'], options)
    return [path.join(folder, 'app')]
  },

  /** Debian's own version is the one of the release; a machine has one of each package. */
  async debian(_folder, packages) {
    for (const [name, version] of packages) {
      const installed = installedVersion(name)
      if (installed.startsWith(version)) continue
      await run('apt-get', ['install', '--yes', '--no-install-recommends', `${name}=${version}*`])
    }
    return ['bash', 'start.sh']
  },

  async maven(folder, packages) {
    const file = path.join(folder, 'pom.xml')
    const [[, version]] = packages as [[string, string]]
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('VERSION', version))
    await run('mvn', ['--quiet', '--batch-mode', 'package', '-DskipTests'], {
      cwd: folder,
      // A short run is done before the second compiler would pay.
      env: { ...process.env, MAVEN_OPTS: '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' },
      timeout: 20 * 60_000,
    })
    return ['bash', 'start.sh']
  },
}

function installedVersion(name: string): string {
  try {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the form of dpkg-query itself
    return execFileSync('dpkg-query', ['-W', '-f=${Version}', name], { encoding: 'utf8' })
  } catch {
    return ''
  }
}
