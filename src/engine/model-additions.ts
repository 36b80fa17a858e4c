/**
 * What an extension adds to models of the engine that another one replaces: each class is replaced
 * once, by the extension that owns it, and that one asks the others.
 */
import type Provider from 'oidc-provider'
import type { KoaContextWithOIDC } from 'oidc-provider'
import type { ModelName } from './override.ts'

type Interaction = InstanceType<Provider['Interaction']>
type Session = InstanceType<Provider['Session']>

export interface ModelAdditions {
  /** What a new interaction keeps of its request. */
  readonly keepInInteraction: (ctx: KoaContextWithOIDC) => Partial<Interaction>
  /** Whether a request may continue an interaction. */
  readonly opensInteraction: (ctx: KoaContextWithOIDC, interaction: Interaction) => boolean
  /** What a code keeps of its request. */
  readonly keepInCode: (
    ctx: KoaContextWithOIDC,
  ) => Partial<InstanceType<Provider['AuthorizationCode']>>
  /** Members of `cnf` of an ID token that comes by the front channel. */
  readonly confirmIdToken: (ctx: KoaContextWithOIDC) => Readonly<Record<string, string>>
  /** What a session keeps of the request in which someone signs in. */
  readonly keepInSession: (ctx: KoaContextWithOIDC, session: Session) => Partial<Session>
  /** Whether a request may use the session that its cookie names. */
  readonly opensSession: (ctx: KoaContextWithOIDC, session: Session) => Promise<boolean>
}

/** What several extensions add, as one. */
export function combineAdditions(all: readonly Partial<ModelAdditions>[]): ModelAdditions {
  return {
    keepInInteraction: (ctx) =>
      Object.assign({}, ...all.map((one) => one.keepInInteraction?.(ctx))),
    opensInteraction: (ctx, interaction) =>
      all.every((one) => one.opensInteraction?.(ctx, interaction) ?? true),
    keepInCode: (ctx) => Object.assign({}, ...all.map((one) => one.keepInCode?.(ctx))),
    confirmIdToken: (ctx) => Object.assign({}, ...all.map((one) => one.confirmIdToken?.(ctx))),
    keepInSession: (ctx, session) =>
      Object.assign({}, ...all.map((one) => one.keepInSession?.(ctx, session))),
    async opensSession(ctx, session) {
      for (const { opensSession } of all) {
        if ((await opensSession?.(ctx, session)) === false) return false
      }
      return true
    },
  }
}

/** Lets a model of the engine store more than its own members. Its class stays. */
export function storeMembers(engine: Provider, name: ModelName, members: readonly string[]): void {
  const Model = engine[name] as unknown as { readonly IN_PAYLOAD: readonly string[] }
  const stored = [...Model.IN_PAYLOAD, ...members]
  Object.defineProperty(Model, 'IN_PAYLOAD', { get: () => stored, configurable: true })
}
