import { createAccounts } from '../accounts/accounts.ts'
import type { MetadataValidator } from '../clients/client-registration.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { Storage } from '../storage/open-storage.ts'
import { administerAccounts } from './accounts.ts'
import { administerAudit, administerCounts } from './audit.ts'
import { administerClients } from './clients.ts'
import { administerGrants } from './grants.ts'
import { administerKeys, type KeysOptions } from './keys.ts'
import { administerRegistrationTokens } from './registration-tokens.ts'
import { administerResources } from './resources.ts'
import { administerSessions } from './sessions.ts'

export type Administration = ReturnType<typeof createAdministration>

export interface AdministrationOptions {
  readonly storage: Pick<
    Storage,
    | 'accounts'
    | 'audit'
    | 'countedEvents'
    | 'clients'
    | 'issued'
    | 'registrations'
    | 'resourceServers'
    | 'signingKeys'
  >
  readonly keys: Pick<KeysOptions, 'ring' | 'publish'>
  readonly validator: MetadataValidator
  readonly events: Pick<Events, 'administered' | 'keyChanged'>
  /** Who does it, from where: for the audit trail. */
  readonly facts: Facts
}

/** What administrators can do: one implementation for the command line and the HTTP API. */
export function createAdministration({
  storage,
  keys,
  validator,
  events,
  facts,
}: AdministrationOptions) {
  const { audit, issued } = storage
  const administered: Administered = (change, about, details) =>
    events.administered({ ...facts, ...about }, change, details)
  const accounts = administerAccounts(
    createAccounts({ store: storage.accounts }),
    issued,
    administered,
  )
  return {
    accounts,
    clients: administerClients(storage.clients, validator, administered),
    registrationTokens: administerRegistrationTokens(storage.registrations, administered),
    resources: administerResources(storage.resourceServers, administered),
    sessions: administerSessions(issued, accounts.idOf, administered),
    grants: administerGrants(issued, accounts.idOf, administered),
    keys: administerKeys({
      ...keys,
      table: storage.signingKeys,
      changed: (change, key) => events.keyChanged(facts, change, key),
    }),
    audit: administerAudit(audit, accounts.idOf),
    countedEvents: administerCounts(storage.countedEvents),
  }
}

/**
 * What can be read without the keys of the installation, and without changing anything: an attempt
 * to change something is a TypeError.
 */
export function createReadings(
  storage: Pick<Storage, 'accounts' | 'clients' | 'issued' | 'registrations' | 'resourceServers'>,
) {
  const readOnly = () => {
    throw new TypeError('a reading changes nothing')
  }
  const validator: MetadataValidator = {
    Client: class {
      metadata = readOnly
    },
  }
  const { issued } = storage
  const accounts = administerAccounts(createAccounts({ store: storage.accounts }), issued, readOnly)
  const clients = administerClients(storage.clients, validator, readOnly)
  return {
    accounts: { list: accounts.list },
    clients: { list: clients.list, show: clients.show },
    registrationTokens: {
      list: administerRegistrationTokens(storage.registrations, readOnly).list,
    },
    resources: { list: administerResources(storage.resourceServers, readOnly).list },
    sessions: { list: administerSessions(issued, accounts.idOf, readOnly).list },
    grants: { list: administerGrants(issued, accounts.idOf, readOnly).list },
  }
}

export type Readings = ReturnType<typeof createReadings>

/** Tells of a change that was made. */
export type Administered = (
  change: Parameters<Events['administered']>[1],
  about: Pick<Facts, 'account' | 'client'>,
  details?: Record<string, unknown>,
) => void
