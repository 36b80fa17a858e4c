/** Variables whose value is a secret: each may come from a file, named by the variable with _FILE. */
const secretVariables = [
  'DATABASE_URL',
  'HOLDFAST_DATABASE_STANDBY_URL',
  'HOLDFAST_SECRET',
  'HOLDFAST_SECRET_PREVIOUS',
  'HOLDFAST_SMTP_URL',
] as const

/** The names of the variables that name those files. */
export const secretFileNames: readonly string[] = secretVariables.map((name) => `${name}_FILE`)

type Environment = Readonly<Record<string, string | undefined>>

/**
 * The environment with secrets read from their files: orchestrators mount them there, where they
 * are in no process list and no `docker inspect`.
 */
export function readSecretFiles(
  env: Environment,
  readFile: (file: string) => string,
): { env: Environment; problems: readonly string[] } {
  const values: Record<string, string> = {}
  const problems: string[] = []
  for (const name of secretVariables) {
    const file = env[`${name}_FILE`]
    if (!file) continue
    if (env[name]) {
      problems.push(`${name} and ${name}_FILE are both set: choose one.`)
      continue
    }
    try {
      values[name] = readFile(file).trim()
      if (!values[name]) problems.push(`${name}_FILE is empty: ${file}.`)
    } catch (error) {
      problems.push(
        `${name}_FILE cannot be read (${(error as NodeJS.ErrnoException).code}): ${file}.`,
      )
    }
  }
  return { env: { ...env, ...values }, problems }
}
