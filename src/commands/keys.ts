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
    'Keys of tokens, cookies, nonces and forms. They rotate by themselves.',
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
    command('list', 'List all keys, with what each does and until when.'),
    () => withKeys((keys) => keys.list(), { makes: false }),
    (list) =>
      list.length === 0
        ? 'There are no keys yet. "holdfast serve" makes them.'
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
      'Publish a next key of these purposes, or of all. It signs when HOLDFAST_KEY_PUBLISH_HOURS have passed; one that is published already is the next key.',
      'keys rotate',
      'keys rotate ES256 cookie',
    ).addArgument(new Argument('[purpose...]', 'what for').choices(keyPurposes)),
    (purposes: KeyPurpose[]) =>
      withKeys((keys) => keys.rotate(purposes.length > 0 ? purposes : keyPurposes)),
    (list) =>
      asTable(
        ['Purpose', 'Next key', 'Signs from'],
        list.map(({ purpose, kid, signsFrom }) => [purpose, kid, asMinute(signsFrom)]),
      ),
  )
}

function retireCommand(): Command {
  return printing(
    command(
      'retire <key>',
      'Take a key out of use in its time: when nothing that it signed is in use any more.',
      'keys retire nFs3IbUBwzIlKxnNpQqKdKxqNsYQGpwqcnXWBRRNGdk',
      'keys retire nFs3IbUBwzIlKxnNpQqKdKxqNsYQGpwqcnXWBRRNGdk --now',
    ).option('--now', 'refuse what it signed from now on: for a key that somebody else has'),
    (kid: string, { now = false }: { now?: boolean }) =>
      withKeys((keys) => keys.retire(kid, { now })),
    describeRetired,
  )
}

function resetCommand(): Command {
  return printing(
    command(
      'reset',
      'Retire all keys now and make new ones: for when HOLDFAST_SECRET is lost, so that none can be opened. Stop all servers first, and start them with the new secret.',
      'keys reset --yes',
    ).option('--yes', 'do it'),
    async ({ yes }: { yes?: true }) => {
      if (!yes) {
        throw new UsageError(`${afterReset} If that is meant: holdfast keys reset --yes`)
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
  'Every access token that is a JWT and every ID token of before is refused, and everybody signs ' +
  'in again; refresh tokens go on.'

function describeRetired(key: RetiredKey): string {
  const { kid, purpose, state, signsUntil, endsAt, successor } = key
  const next: [string, string] = ['Next key', successor ?? '']
  if (state === 'retired') {
    return asFacts(`Retired ${kid}.`, [next, ['What follows', consequences(purpose)]])
  }
  return asFacts(`${kid} ends in its time.`, [
    next,
    ['Signs until', signsUntil ? asMinute(signsUntil) : ''],
    ['Ends', endsAt ? asMinute(endsAt) : ''],
  ])
}

/** What a person notices when what a key has signed is refused. */
function consequences(purpose: string): string {
  if (isSigningAlgorithm(purpose)) {
    return 'APIs refuse its tokens when they fetch the key set again; apps refresh them.'
  }
  switch (purpose) {
    case 'cookie':
      return 'Who was signed in by its cookies signs in again.'
    case 'session-binding':
      return 'Bound sessions are none until their browsers have proven the keys again.'
    case 'form-token':
      return 'Forms that are open have to be opened again.'
    default:
      return 'Clients are given a new nonce, and repeat their request.'
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
