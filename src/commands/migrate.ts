import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { isSecretMade } from '../config/secret.ts'
import { createLog } from '../observability/log.ts'
import { createObservability } from '../observability/observability.ts'
import { openKeys } from '../open-keys.ts'
import type { Storage } from '../storage/open-storage.ts'
import { actorOfCommand, command, printing, withStorage } from './command.ts'

/** `holdfast migrate`: brings the database schema up to this release. */
export function migrateCommand(): Command {
  return printing(
    command(
      'migrate',
      'Migrate the database schema to this release and generate missing keys. "holdfast serve" does this as well.',
      'migrate',
    ),
    () =>
      withStorage(
        async (storage, config) => {
          if (isSecretKept(config)) await makeKeys(storage, config)
          return { applied: storage.migrated }
        },
        { migrates: true },
      ),
    ({ applied }) =>
      applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`,
  )
}

/**
 * Makes the keys that are missing. A secret that was made for this command alone, in a folder that
 * the servers do not have, would seal them for nobody: then they are left to `serve`.
 */
async function makeKeys(storage: Storage, config: Config): Promise<void> {
  await using observability = createObservability({ log: createLog('silent'), storage })
  const { events } = observability
  await openKeys({ config, storage, events, actor: actorOfCommand(), tolerate: 'all' })
}

/** With an embedded database the data folder is that of the servers. */
function isSecretKept(config: Config): boolean {
  return config.databaseUrl === undefined || isSecretMade(config)
}
