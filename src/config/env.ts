import { type Config, ConfigError, parseConfig } from './config.ts'

/**
 * The configuration of this process. The only place that reads the environment; a file `.env` in
 * the current folder is read as well, and what is set in the environment wins.
 */
export function readConfig(): Config {
  try {
    process.loadEnvFile()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') throw new ConfigError([`.env cannot be read (${code}).`])
  }
  return parseConfig(process.env)
}
