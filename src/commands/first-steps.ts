import { AccountError } from '../accounts/account-error.ts'
import { createAccounts } from '../accounts/accounts.ts'
import { generatePassword } from '../accounts/password.ts'
import type { RecordChange } from '../administration/administration.ts'
import { bindingMethodOf } from '../clients/binding-method.ts'
import {
  type MetadataValidator,
  RegistrationError,
  registerClient,
} from '../clients/client-registration.ts'
import type { Config } from '../config/config.ts'
import { isLoopback } from '../net/loopback.ts'
import type { RunningServer } from '../server.ts'
import type { Storage } from '../storage/open-storage.ts'

const email = 'admin@localhost'
const clientId = 'first-app'

interface FirstConfig extends Pick<Config, 'issuer'> {
  readonly protocol: Pick<Config['protocol'], 'profile'>
}

export interface FirstSteps {
  /** Whether anyone can sign in. */
  readonly hasAccounts: boolean
  /** The account made now: its password is known only here. */
  readonly account: { readonly email: string; readonly password: string } | undefined
  /** The client that is there from the first start until someone removes it. */
  readonly clientId: string | undefined
}

/**
 * Gives an empty installation one account and one client, so that a newcomer can sign in at once.
 * An installation that has accounts or clients is left as it is, and so is one that others can
 * reach: there nobody wants an account of a known name, and its password in the log of a container.
 * A server of a profile gets no client: this one has no key to authenticate by.
 */
export async function takeFirstSteps(
  { issuer, protocol }: FirstConfig,
  storage: Storage,
  validator: MetadataValidator,
  recordChange: RecordChange,
): Promise<FirstSteps> {
  const [accounts, clients] = await Promise.all([storage.accounts.list(), storage.clients.list()])
  const isMine = isLoopback(new URL(issuer))
  const account =
    isMine && accounts.length === 0 ? await addFirstAccount(storage, recordChange) : undefined
  if (isMine && clients.length === 0 && protocol.profile === undefined) {
    await addFirstClient(storage, validator, recordChange)
  }
  return {
    account,
    hasAccounts: account !== undefined || accounts.length > 0,
    clientId: (await storage.clients.find(clientId))?.client_id,
  }
}

/** Takes the first steps of a server that has started, for its audit trail as well. */
export function recordFirstSteps(
  config: FirstConfig,
  storage: Storage,
  { provider, events }: Pick<RunningServer, 'provider' | 'events'>,
): Promise<FirstSteps> {
  return takeFirstSteps(config, storage, provider, (change, about, details) =>
    events.recordChange({ actor: 'server', ...about }, change, details, { first: true }),
  )
}

async function addFirstAccount(storage: Storage, recordChange: RecordChange) {
  const password = generatePassword()
  try {
    const { id } = await createAccounts({ store: storage.accounts }).add({ email, password })
    recordChange('account.added', { account: id })
    return { email, password }
  } catch (error) {
    // Another server that starts now has made it, and prints the password.
    if (error instanceof AccountError && error.code === 'email_taken') return undefined
    throw error
  }
}

async function addFirstClient(
  storage: Storage,
  validator: MetadataValidator,
  recordChange: RecordChange,
): Promise<void> {
  try {
    const metadata = await registerClient(
      {
        client_id: clientId,
        client_name: 'First app',
        application_type: 'native',
        redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: 'none',
      },
      { table: storage.clients, validator },
    )
    recordChange('client.added', { client: clientId }, { binding: bindingMethodOf(metadata) })
  } catch (error) {
    if (error instanceof RegistrationError && error.code === 'client_id_taken') return
    throw error
  }
}
