import type { Config } from './config/config.ts'
import { lifetimes } from './config/lifetimes.ts'
import { installationSecrets } from './config/secret.ts'
import { type KeyRing, type KeyRingOptions, openKeyRing } from './keys/key-ring.ts'
import type { KeyPolicy } from './keys/key-schedule.ts'
import type { Events } from './observability/events.ts'
import type { Storage } from './storage/open-storage.ts'

export interface OpenKeysOptions
  extends Pick<KeyRingOptions, 'makes' | 'tolerate' | 'onStep' | 'makeKey'> {
  readonly config: Config
  readonly storage: Pick<Storage, 'signingKeys'>
  readonly events: Pick<Events, 'keyChanged'>
  /** Who makes what is missing, for the audit trail. */
  readonly actor: string
}

/**
 * The keys of the installation, as this process knows them.
 *
 * @throws {@link StorageError} `secret_mismatch`, `key_unreadable`, `data_folder_unusable`
 */
export async function openKeys({
  config,
  storage,
  events,
  actor,
  ...options
}: OpenKeysOptions): Promise<KeyRing> {
  return openKeyRing({
    table: storage.signingKeys,
    secrets: await installationSecrets(config, options),
    policy: keyPolicy(config),
    ...options,
    onChange: ({ change, first, ...key }) =>
      events.keyChanged({ actor }, `key.${change}`, key, { first }),
  })
}

/** Milliseconds: clocks that differ, and nodes that read late. */
const margin = 15 * 60 * 1000

/** A key is kept for as long as anything that it has signed can be shown. */
export function keyPolicy({ keys: { rotation, publish } }: Pick<Config, 'keys'>): KeyPolicy {
  const { AccessToken, ClientCredentials, IdToken, Interaction, Session } = lifetimes
  // An ID token is shown once more to sign out: after its own end, as long as there is a session.
  const longest = Math.max(AccessToken, ClientCredentials, IdToken, Interaction, Session)
  return { rotation, publish, keep: longest * 1000 + margin }
}
