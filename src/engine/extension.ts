import type { Context } from 'koa'
import type Provider from 'oidc-provider'
import type { ClientMetadata, Configuration, FindAccount, KoaContextWithOIDC } from 'oidc-provider'
import type { ProofCheck } from '../bindings/dpop.ts'
import type { GroupDemands } from '../clients/sign-in-rules.ts'
import type { ProtocolConfig } from '../config/protocol-config.ts'
import type { Edge } from '../http/edge.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import type { BackchannelLimits } from '../limits/backchannel-limits.ts'
import type { UserCodeLimits } from '../limits/user-code-limits.ts'
import type { GuardedFetch } from '../net/guarded-fetch.ts'
import type { Events } from '../observability/events.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { BrowserRequestTable } from '../storage/browser-request-table.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type { DetailsTypeTable } from '../storage/details-type-table.ts'
import type { EngineTimes } from '../storage/engine-times.ts'
import type { ReplayTable } from '../storage/replay-table.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'
import type { ClientCertificatesOptions } from './client-certificates.ts'
import type { DevicePages } from './device-pages.ts'
import type { ModelAdditions } from './model-additions.ts'
import type { SessionModelOptions } from './session-model.ts'

export interface ProviderOptions {
  readonly issuer: string
  readonly keys: Pick<KeyRing, 'view' | 'now'>
  readonly dpopNonces: 'required' | 'optional'
  readonly protocol: ProtocolConfig
  readonly adminApi: boolean
  /** Where clients register themselves; undefined where they do not. */
  readonly registrationEndpoint: string | undefined
  /** Whether a client may name itself by the URL of a document. */
  readonly clientDocuments: boolean
  readonly edge: Edge
  /** Undefined when no certificate can reach this server. */
  readonly mtls: MtlsOptions | undefined
  /** Whether Token Binding can reach this server. */
  readonly tokenBinding: boolean
  /** Undefined where the device flow (RFC 8628) is off. */
  readonly deviceFlow:
    | {
        readonly limits: UserCodeLimits
        readonly pages: DevicePages
      }
    | undefined
  readonly tables: {
    readonly artifacts: ArtifactTable
    readonly browserRequests: BrowserRequestTable
    readonly clients: ClientTable
    readonly detailsTypes: DetailsTypeTable
    readonly replays: ReplayTable
    readonly resourceServers: ResourceServerTable
  }
  readonly findAccount: FindAccount
  /** What sign-ins of people of some groups need. */
  readonly groupDemands: GroupDemands
  /** The id of the account that has an email. */
  readonly findByEmail: (email: string) => Promise<{ readonly id: string } | undefined>
  readonly backchannelLimits: BackchannelLimits
  readonly claims: Record<string, string[]>
  readonly sessions: SessionModelOptions['sessions']
  readonly provenAt: SessionModelOptions['provenAt']
  readonly securityEvents: SecurityEvents
  readonly events: Events
  /** Whether the network of a request may have a row for a request that no cookie can hold. */
  readonly admitLargeRequest: (ctx: Context) => Promise<boolean>
  /** Fetches what a client names by URL: its keys. */
  readonly guardedFetch: GuardedFetch
  /** Of proofs at the endpoints that are ours or made by ours. */
  readonly proofs: ProofCheck
  readonly pages: {
    readonly renderError: NonNullable<Configuration['renderError']>
    readonly logoutSource: (ctx: KoaContextWithOIDC, form: string) => Promise<void> | void
    readonly postLogoutSuccessSource: (ctx: KoaContextWithOIDC) => Promise<void> | void
  }
}

export type MtlsOptions = Omit<ClientCertificatesOptions, 'edge' | 'now'> & {
  /** Where certificates are asked for, if that is not the issuer itself. */
  readonly origin: string | undefined
}

/** What an extension may need. */
export type ExtensionOptions = ProviderOptions & {
  readonly times: EngineTimes
  /** Of all extensions. */
  readonly additions: ModelAdditions
}

/** Something that Holdfast adds to oidc-provider. */
export interface Extension {
  /** Changes the engine, once, before it has served a request. */
  readonly extend: (engine: Provider, options: ExtensionOptions) => void
  /** What it adds to model classes that are another's. */
  readonly models?: (options: ProviderOptions) => readonly Partial<ModelAdditions>[]
  /** Members of the metadata of the server. */
  readonly metadata?: (options: ProviderOptions) => Readonly<Record<string, unknown>>
  /** Names of members of client metadata. */
  readonly clientMetadata?: readonly string[]
  /**
   * Checks client metadata.
   *
   * @throws the engine's `invalid_client_metadata`.
   */
  readonly checkClient?: (metadata: ClientMetadata, options: ProviderOptions) => void
}
