/**
 * WebSockets and event streams end with the session or the token that has opened them, by the leases of
 * `@holdfast/verify`: one timer for all of them, and one look at the store for each of a session every
 * half minute.
 *
 * What was decided when a stream was opened counts for no longer than the proof of the session's key
 * that came with it. A newer proof does not prolong it: it may be the browser's, and the stream that of
 * a thief who has copied all cookies. The page opens its stream again, and proves the key.
 */
import type { AccessToken, Verified } from '@holdfast/verify'
import { createLeases, type LeaseEnd } from '@holdfast/verify/ticket'
import { concerns, type Ended, type Session } from './browser/sessions.ts'
import type { GateEventListener } from './events.ts'

/** What a stream was let through with. */
export type Holder = AccessToken &
  Readonly<{
    application: string
    /** Of a browser: its session, and whether that is no longer what the stream was opened with. */
    session?: Session
    isOver?: () => Promise<boolean>
  }>

/** A stream that a client has opened with a token. */
export const holderOf = ({ token }: Verified, application: string): Holder => ({
  ...token,
  application,
})

/** A stream that a browser has opened. `untilMs` is the end of the proof of its key. */
export function sessionHolder(
  session: Session,
  { untilMs, isOver }: Readonly<{ untilMs: number; isOver: () => Promise<boolean> }>,
): Holder {
  const { issuer, subject, application, endsAtMs } = session
  const exp = Math.min(untilMs, endsAtMs) / 1000
  const claims = { iss: issuer, sub: subject, exp }
  const nothing = { confirmations: [], methods: [] }
  return { ...nothing, issuer, application, format: 'introspection', claims, session, isOver }
}

/** The streams of a gate. */
export type Streams = Disposable &
  Readonly<{
    /** Calls `end` once when the stream has to end. Returns how to say that it has ended. */
    hold(holder: Holder, end: () => void): () => void
    /** Ends the streams of a session at once. */
    endOf(id: string): void
    /** Ends those of sessions, and of tokens, that a provider wants ended, at once. */
    endAll(ended: Ended): void
  }>

/** Seconds between two looks at a session that another process may have ended. */
const checkEveryS = 30

/** Makes the keeper of the streams of a gate. */
export function createStreams({
  now,
  report,
}: Readonly<{ now: () => number; report: GateEventListener }>): Streams {
  const leases = createLeases({
    now,
    checkEvery: checkEveryS,
    isRevoked: (token) => (token as Holder).isOver?.() ?? false,
  })
  return Object.freeze({
    hold(holder: Holder, end: () => void) {
      const { application } = holder
      const lease = leases.hold({ token: holder }, (reason: LeaseEnd) => {
        const facts = { sub: holder.claims.sub, session: holder.session?.id }
        report({ type: 'stream_ended', application, ...facts, reason })
        end()
      })
      return lease.release
    },
    endOf: (id: string) => leases.revoke((token) => (token as Holder).session?.id === id),
    endAll: (ended: Ended) => leases.revoke((token) => isNamed(ended, token as Holder)),
    [Symbol.dispose]: () => leases[Symbol.dispose](),
  })
}

/** Whether a provider has named the session of a stream, or that of its token. */
function isNamed(ended: Ended, { session, application, issuer, claims }: Holder): boolean {
  if (session !== undefined) return concerns(ended, session)
  if (ended.application !== application || ended.issuer !== issuer) return false
  if (ended.subject !== undefined && ended.subject !== claims.sub) return false
  return ended.sid === undefined ? ended.subject !== undefined : ended.sid === claims.sid
}
