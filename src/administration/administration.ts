import { type AccountLinks, createAccountLinks } from '../accounts/account-links.ts'
import { createAccounts } from '../accounts/accounts.ts'
import type { MetadataValidator } from '../clients/client-registration.ts'
import { linkAddress } from '../http/routes.ts'
import { createLinkMail, type Outbox } from '../mail/outbox.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { Storage } from '../storage/open-storage.ts'
import { createAccountTransfer } from './account-transfer.ts'
import { administerAccounts } from './accounts.ts'
import { administerAudit, administerCounts } from './audit.ts'
import { administerClaims } from './claims.ts'
import { administerClients } from './clients.ts'
import { administerGrants } from './grants.ts'
import { administerInvitations } from './invitations.ts'
import { administerKeys, type KeysOptions } from './keys.ts'
import { administerRegistrationTokens } from './registration-tokens.ts'
import { administerResources } from './resources.ts'
import { administerSessions } from './sessions.ts'

export type Administration = ReturnType<typeof createAdministration>

export interface AdministrationOptions {
  readonly issuer: string
  readonly storage: Pick<
    Storage,
    | 'accountLinks'
    | 'accounts'
    | 'accountTransfers'
    | 'artifacts'
    | 'audit'
    | 'countedEvents'
    | 'claimMappings'
    | 'clientLogos'
    | 'clients'
    | 'detailsTypes'
    | 'issued'
    | 'passkeys'
    | 'registrations'
    | 'resourceServers'
    | 'signingKeys'
    | 'signUps'
  >
  readonly keys: Pick<KeysOptions, 'ring' | 'publish'>
  readonly validator: MetadataValidator
  /** Undefined where no mail is sent. */
  readonly outbox: Outbox | undefined
  readonly events: Pick<Events, 'recordChange' | 'keyChanged'>
  /** Who does it, from where: for the audit trail. */
  readonly context: Facts
}

/** What administrators can do: one implementation for the command line and the HTTP API. */
export function createAdministration({
  issuer,
  storage,
  keys,
  validator,
  outbox,
  events,
  context,
}: AdministrationOptions) {
  const { audit, issued } = storage
  const recordChange: RecordChange = (change, about, details) =>
    events.recordChange({ ...context, ...about }, change, details)
  const accounts = administerAccounts(
    createAccounts({ store: storage.accounts }),
    storage,
    createAccountLinks({
      table: storage.accountLinks,
      store: storage.accounts,
      address: linkAddress(issuer),
      mail: createLinkMail(outbox),
    }),
    recordChange,
  )
  return {
    accounts,
    accountTransfer: createAccountTransfer(storage.accountTransfers, recordChange, keys.ring.now),
    claims: administerClaims(storage.claimMappings, recordChange),
    clients: administerClients(
      { table: storage.clients, logos: storage.clientLogos },
      validator,
      recordChange,
    ),
    invitations: administerInvitations(storage.signUps, issuer, recordChange),
    registrationTokens: administerRegistrationTokens(
      storage.registrations,
      storage.resourceServers,
      recordChange,
    ),
    resources: administerResources(storage.resourceServers, storage.detailsTypes, recordChange),
    sessions: administerSessions(issued, accounts.idOf, recordChange),
    grants: administerGrants(issued, accounts.idOf, recordChange),
    keys: administerKeys({
      ...keys,
      table: storage.signingKeys,
      changed: (change, key) => events.keyChanged(context, change, key),
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
  storage: Pick<
    Storage,
    | 'accounts'
    | 'artifacts'
    | 'claimMappings'
    | 'clientLogos'
    | 'clients'
    | 'detailsTypes'
    | 'issued'
    | 'passkeys'
    | 'registrations'
    | 'resourceServers'
    | 'signUps'
  >,
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
  const accounts = administerAccounts(
    createAccounts({ store: storage.accounts }),
    storage,
    { invite: readOnly, reset: readOnly } satisfies Pick<AccountLinks, 'invite' | 'reset'>,
    readOnly,
  )
  const tables = { table: storage.clients, logos: storage.clientLogos }
  const clients = administerClients(tables, validator, readOnly)
  return {
    accounts: {
      list: accounts.list,
      listInstallations: accounts.listInstallations,
      listPasskeys: accounts.listPasskeys,
    },
    claims: { list: administerClaims(storage.claimMappings, readOnly).list },
    clients: { list: clients.list, show: clients.show },
    invitations: { list: administerInvitations(storage.signUps, '', readOnly).list },
    registrationTokens: {
      list: administerRegistrationTokens(storage.registrations, storage.resourceServers, readOnly)
        .list,
    },
    resources: {
      list: administerResources(storage.resourceServers, storage.detailsTypes, readOnly).list,
    },
    sessions: { list: administerSessions(issued, accounts.idOf, readOnly).list },
    grants: { list: administerGrants(issued, accounts.idOf, readOnly).list },
  }
}

export type Readings = ReturnType<typeof createReadings>

/** Records a change that was made. */
export type RecordChange = (
  change: Parameters<Events['recordChange']>[1],
  about: Pick<Facts, 'account' | 'client'>,
  details?: Record<string, unknown>,
) => void
