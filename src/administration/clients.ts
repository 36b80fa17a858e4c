import type { ClientMetadata } from 'oidc-provider'
import { bindingMethodOf } from '../clients/binding-method.ts'
import { readLogo } from '../clients/client-logo.ts'
import {
  changeClient,
  type MetadataValidator,
  type RequestedMetadata,
  registerClient,
} from '../clients/client-registration.ts'
import { makeClientSecret } from '../clients/client-secret.ts'
import type { ClientLogoTable } from '../storage/client-logo-table.ts'
import type { ClientTable, StoredClient } from '../storage/client-table.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'

export interface RenewedSecret {
  readonly client_id: string
  readonly client_secret: string
}

/** The applications that may ask for tokens. */
export function administerClients(
  { table, logos }: { table: ClientTable; logos: ClientLogoTable },
  validator: MetadataValidator,
  recordChange: RecordChange,
) {
  return {
    /** A secret that was made is in the answer, and known only from it. */
    async add(requested: RequestedMetadata): Promise<ClientMetadata> {
      const metadata = await registerClient(requested, { table, validator })
      recordChange('client.added', { client: metadata.client_id }, auditedOf(metadata))
      return metadata
    },

    /** @throws AdministrationError `not_found`; RegistrationError. */
    async change(clientId: string, requested: RequestedMetadata): Promise<ClientMetadata> {
      const metadata = await changeClient(clientId, requested, { table, validator })
      if (!metadata) throw noSuchClient(clientId)
      recordChange(
        'client.changed',
        { client: clientId },
        {
          ...auditedOf(metadata),
          ...(metadata.client_secret !== undefined && { new_secret: true }),
        },
      )
      return metadata
    },

    async list(): Promise<StoredClient[]> {
      const list = await table.list()
      return list.map(({ metadata, createdAt }) => ({
        metadata: withoutSecret(metadata),
        createdAt,
      }))
    },

    async show(clientId: string): Promise<ClientMetadata> {
      const metadata = await table.find(clientId)
      if (!metadata) throw noSuchClient(clientId)
      return withoutSecret(metadata)
    },

    /**
     * Makes a new secret for a client, which is in the answer, and known only from it. The one before
     * ends: on other nodes within three seconds.
     *
     * @throws AdministrationError `not_found`; `conflict` for one that has no secret.
     */
    async renewSecret(clientId: string): Promise<RenewedSecret> {
      const { secret, stored } = makeClientSecret()
      if (!(await table.replaceSecret(clientId, stored))) {
        if (!(await table.find(clientId))) throw noSuchClient(clientId)
        throw new AdministrationError('conflict', `${clientId} does not authenticate by a secret.`)
      }
      recordChange('client.changed', { client: clientId }, { new_secret: true })
      return { client_id: clientId, client_secret: secret }
    },

    /**
     * Sets the logo that people see at consent.
     *
     * @throws AdministrationError `not_found`; RegistrationError.
     */
    async setLogo(clientId: string, bytes: Uint8Array): Promise<void> {
      const logo = readLogo(bytes)
      if (!(await logos.set(clientId, logo))) throw noSuchClient(clientId)
      table.forget(clientId)
      recordChange('client.changed', { client: clientId }, { logo: logo.digest })
    },

    async removeLogo(clientId: string): Promise<void> {
      if (!(await logos.remove(clientId))) throw noSuchClient(clientId)
      table.forget(clientId)
      recordChange('client.changed', { client: clientId }, { logo: null })
    },

    async remove(clientId: string): Promise<void> {
      if (!(await table.remove(clientId))) throw noSuchClient(clientId)
      recordChange('client.removed', { client: clientId })
    },
  }
}

/** What the audit trail keeps of a client: how safe its tokens are, and whether users are asked. */
function auditedOf(metadata: ClientMetadata): Record<string, unknown> {
  const { skip_consent } = metadata
  return { binding: bindingMethodOf(metadata), ...(skip_consent && { skip_consent }) }
}

/** A secret is stored as a digest, which is of no use to anyone who reads it. */
function withoutSecret({ client_secret: _, ...shown }: ClientMetadata): ClientMetadata {
  return shown
}

function noSuchClient(clientId: string): AdministrationError {
  return new AdministrationError('not_found', `There is no client ${clientId}.`)
}
