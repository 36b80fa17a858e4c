import {
  type Config,
  ConfigError,
  type ExaminedVariables,
  examineVariables,
  parseConfig,
} from './config.ts'

/**
 * The configuration of this process. Nothing else reads the environment; a file `.env` in the
 * current folder is read as well, and what is set in the environment wins.
 *
 * @throws {@link ConfigError} with every mistake at once.
 */
export function readConfig(): Config {
  const problem = loadFile()
  if (problem) throw new ConfigError([problem])
  return parseConfig(process.env)
}

/** What {@link readConfig} reads, mistakes included. */
export function examineEnvironment(): ExaminedVariables {
  const problem = loadFile()
  const examined = examineVariables(process.env)
  return problem ? { ...examined, problems: [problem, ...examined.problems] } : examined
}

/** Returns a problem of the file `.env`, which need not exist. */
function loadFile(): string | undefined {
  try {
    process.loadEnvFile()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') return `.env cannot be read (${code}).`
  }
  return undefined
}
