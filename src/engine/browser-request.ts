/**
 * What one request of a browser reads, by one statement, and what it writes, by another one at its
 * end: it has all of its effects or none. It is kept in the state of the request's context.
 */
import type { Context } from 'koa'
import Provider from 'oidc-provider'
import type { Account } from '../storage/account-store.ts'
import type { Artifact, ArtifactKey } from '../storage/artifact-table.ts'
import type { BrowserChange, FoundBrowser } from '../storage/browser-request-table.ts'
import type { BrowserSession } from '../storage/browser-session-table.ts'
import type { RequestArtifacts } from '../storage/engine-adapter.ts'

/** The session that a request's cookie names. */
export interface NamedSession {
  readonly session: BrowserSession
  /** When its key was last proven, in milliseconds since the epoch; undefined: too long ago. */
  readonly provenAt: number | undefined
}

export interface BrowserRequest {
  found: FoundBrowser | undefined
  /** The state of the interaction that its cookie was opened for. */
  opened: { readonly uid: string; readonly state: Record<string, unknown> } | undefined
  named: NamedSession | undefined
  /** The session that this request has bound to a page key. */
  pageKeyOf: string | undefined
  uses: BrowserChange['uses']
  consumes: ArtifactKey | undefined
  removed: ArtifactKey | undefined
  written: Artifact[]
}

/** The one of a context, which begins with the first call. */
export function browserRequest({ state }: Pick<Context, 'state'>): BrowserRequest {
  state.browserRequest ??= {
    found: undefined,
    opened: undefined,
    named: undefined,
    pageKeyOf: undefined,
    uses: undefined,
    consumes: undefined,
    removed: undefined,
    written: [],
  } satisfies BrowserRequest
  return state.browserRequest
}

/** What a request is going to write but for its session; from now on it is nothing. */
export function takeChange(request: BrowserRequest): Omit<BrowserChange, 'session'> {
  const { uses, consumes, removed, written } = request
  Object.assign(request, { uses: undefined, consumes: undefined, removed: undefined, written: [] })
  return { uses, consumes, removed, written }
}

/** An account that is not disabled: as the request has read it, or else as it is now. */
export async function activeAccount(
  ctx: Pick<Context, 'state'>,
  id: string,
  accounts: { findActive(id: string): Promise<Account | undefined> },
): Promise<Account | undefined> {
  const { account } = browserRequest(ctx).found ?? {}
  if (account?.id !== id) return accounts.findActive(id)
  return account.disabled ? undefined : account
}

/**
 * What the adapter of the engine asks, which is given no context. What is written waits for the
 * session: the engine saves that last, in every request in which someone is signed in.
 */
export function artifactsOfRequest(): RequestArtifacts | undefined {
  const { ctx } = Provider
  if (!ctx) return undefined
  const request = browserRequest(ctx)
  const { accountId } = ctx.oidc.session ?? {}
  const isSavedLast = accountId && /^(authorization|(device_)?resume)$/.test(ctx.oidc.route)
  return {
    find(kind, identifier) {
      const { found } = request
      return kind === 'Grant' && found?.grantId === identifier ? [found.grant] : undefined
    },
    write(artifact, consumes) {
      if (artifact.kind !== 'Session' && !isSavedLast) return false
      // One statement writes a row once.
      const isOther = ({ kind, id }: Artifact) => kind !== artifact.kind || !id.equals(artifact.id)
      request.written = [...request.written.filter(isOther), artifact]
      request.consumes ??= consumes
      return true
    },
  }
}
