import { Argument, type Command } from 'commander'
import { administerKeys, type RetiredKey } from '../administration/keys.ts'
import { isSigningAlgorithm, type KeyPurpose, keyPurposes } from '../keys/key-purpose.ts'
import { createLog } from '../observability/log.ts'
import { createObservability } from '../observability/observability.ts'
import { type OpenKeysOptions, openKeys } from '../open-keys.ts'
import { actorOfCommand, command, printing, UsageError, withStorage } from './command.ts'
import { asFacts, asMinute, asTable } from './table.ts'

/** `holdfast keys`: what tokens, cookies, nonces and forms are made with. */
export function keysCommand(): Command {
  return command(
    'keys',
    'Keys for tokens, cookies, nonces and forms. They rotate automatically.',
    'keys list',
    'keys rotate ES256',
    'keys retire KEY --now',
  )
    .addCommand(listCommand())
    .addCommand(rotateCommand())
    .addCommand(retireCommand())
    .addCommand(resetCommand())
}

function listCommand(): Command {
  return printing(
    command('list', 'List all keys with their purpose, state and expiry.'),
    () => withKeys((keys) => keys.list(), { makes: false }),
    (list) =>
      list.length === 0
        ? 'There are no keys yet. "holdfast serve" generates them.'
        : asTable(
            ['Purpose', 'Key', 'State', 'Signs from', 'Signs until', 'Ends'],
            list.map((key) => [
              key.purpose,
              key.kid,
              key.readable ? key.state : `${key.state}, unreadable`,
              asMinute(key.signsFrom),
              key.signsUntil ? asMinute(key.signsUntil) : '',
              key.endsAt ? asMinute(key.endsAt) : '',
            ]),
          ),
  )
}

function rotateCommand(): Command {
  return printing(
    command(
      'rotate',
      'Publish a new key of these purposes, or of all. It starts signing after HOLDFAST_KEY_PUBLISH_HOURS. Running it again within a minute changes nothing.',
      'keys rotate',
      'keys rotate ES256 cookie',
    ).addArgument(new Argument('[purpose...]', 'what for').choices(keyPurposes)),
    (purposes: KeyPurpose[]) =>
      withKeys((keys) => keys.rotate(purposes.length > 0 ? purposes : keyPurposes)),
    (list) =>
      asTable(
        ['Purpose', 'New key', 'Signs from'],
        list.map(({ purpose, kid, signsFrom }) => [purpose, kid, asMinute(signsFrom)]),
      ),
  )
}

function retireCommand(): Command {
  return printing(
    command(
      'retire <key>',
      'Retire a key once everything it signed has expired.',
      'keys retire nFs3IbUBwzIlKxnNpQqKdKxqNsYQGpwqcnXWBRRNGdk',
      'keys retire nFs3IbUBwzIlKxnNpQqKdKxqNsYQGpwqcnXWBRRNGdk --now',
    ).option('--now', 'reject everything it signed from now on (for a key that has leaked)'),
    (kid: string, { now = false }: { now?: boolean }) =>
      withKeys((keys) => keys.retire(kid, { now })),
    describeRetired,
  )
}

function resetCommand(): Command {
  return printing(
    command(
      'reset',
      'Retire all keys now and generate new ones, after HOLDFAST_SECRET was lost and the keys cannot be decrypted. Stop all servers first, and start them with the new secret.',
      'keys reset --yes',
    ).option('--yes', 'do it'),
    async ({ yes }: { yes?: true }) => {
      if (!yes) {
        throw new UsageError(`${afterReset} To do this, run: holdfast keys reset --yes`)
      }
      return withKeys((keys) => keys.reset(), { tolerate: 'all' })
    },
    (list) =>
      asFacts(`All keys are new. ${afterReset}`, [
        ...list.map(({ purpose, kid }) => [purpose, kid] as const),
      ]),
  )
}

/** Refresh tokens are no keys' work: who has one has its key as well, and gets new tokens. */
const afterReset =
  'All existing JWT access tokens and ID tokens are rejected, and all users must sign in again. ' +
  'Refresh tokens stay valid.'

function describeRetired(key: RetiredKey): string {
  const { kid, purpose, state, signsUntil, endsAt, successor } = key
  const next: [string, string] = ['Next key', successor ?? '']
  if (state === 'retired') {
    return asFacts(`Retired ${kid}.`, [next, ['What follows', consequences(purpose)]])
  }
  return asFacts(`${kid} will be retired once everything it signed has expired.`, [
    next,
    ['Signs until', signsUntil ? asMinute(signsUntil) : ''],
    ['Ends', endsAt ? asMinute(endsAt) : ''],
  ])
}

/** What a person notices when what a key has signed is refused. */
function consequences(purpose: string): string {
  if (isSigningAlgorithm(purpose)) {
    return 'APIs reject its tokens once they have fetched the key set again. Applications refresh them.'
  }
  switch (purpose) {
    case 'cookie':
      return 'Users whose cookies it signed must sign in again.'
    case 'session-binding':
      return 'Bound sessions are suspended until the browser proves its key again.'
    case 'form-token':
      return 'Open forms must be reloaded.'
    default:
      return 'Clients receive a new nonce and repeat their request.'
  }
}

/** Works on the keys, and writes what was done to the audit trail before the storage is closed. */
async function withKeys<T>(
  work: (keys: ReturnType<typeof administerKeys>) => Promise<T>,
  { tolerate = 'some', makes = true }: Pick<OpenKeysOptions, 'tolerate' | 'makes'> = {},
): Promise<T> {
  return withStorage(async (storage, config, { report: onStep }) => {
    await using observability = createObservability({ log: createLog('silent'), storage })
    const { events } = observability
    const actor = actorOfCommand()
    const ring = await openKeys({ config, storage, events, actor, tolerate, makes, onStep })
    return await work(
      administerKeys({
        ring,
        table: storage.signingKeys,
        publish: config.keys.publish,
        changed: (change, key) => events.keyChanged({ actor }, change, key),
      }),
    )
  })
}
