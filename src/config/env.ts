import { type Config, parseConfig } from './config.ts'

/**
 * The configuration of this process. The only place that reads the environment; a file `.env` in
 * the current folder is read as well, and what is set in the environment wins.
 */
export function readConfig(): Config {
  try {
    process.loadEnvFile()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  return parseConfig(process.env)
}
