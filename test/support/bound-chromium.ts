import type { ExecutionContext } from 'ava'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { boundArguments, chromiumArguments, chromiumPath } from './chromium-program.ts'

/** What the browser itself tells of a device-bound session. */
export interface DbscBrowserEvent {
  readonly sessionId?: string
  readonly succeeded: boolean
  readonly creationEventDetails?: { fetchResult: string; newSession?: BrowserSession }
  readonly refreshEventDetails?: { refreshResult: string; wasFullyProactiveRefresh: boolean }
  readonly terminationEventDetails?: { deletionReason: string }
}

interface BrowserSession {
  readonly key: { readonly site: string; readonly id: string }
  readonly cookieCravings: readonly { readonly name: string }[]
  readonly inclusionRules: unknown
}

/**
 * Chromium with Device Bound Session Credentials on software keys. Over a certificate that it has
 * to be told to ignore it binds nothing and says nothing: `certificates` are made valid instead.
 */
export async function launchBoundChromium(
  certificates: readonly string[],
  hosts: Record<string, string> = {},
  options: { bound?: boolean } = {},
): Promise<Browser> {
  return chromium.launch({
    ...(chromiumPath === undefined ? {} : { executablePath: chromiumPath }),
    args: [...chromiumArguments(hosts), ...boundArguments(certificates, options)],
  })
}

/** A page whose device-bound sessions are watched. */
export interface WatchedPage {
  readonly page: Page
  readonly events: readonly DbscBrowserEvent[]
  /** Waits until an event has come that fits, from the `from`th on; its position. */
  saw(fits: (event: DbscBrowserEvent) => boolean, from?: number): Promise<number>
  /** Waits until the browser has registered a key: without it a test of this would test nothing. */
  registered(from?: number): Promise<string>
}

export async function watch(t: ExecutionContext, context: BrowserContext): Promise<WatchedPage> {
  const page = await context.newPage()
  const events: DbscBrowserEvent[] = []
  const session = await context.newCDPSession(page)
  let notify = () => {}
  const listen = session.on.bind(session) as (
    name: string,
    listener: (event: DbscBrowserEvent) => void,
  ) => void
  listen('Network.deviceBoundSessionEventOccurred', (event) => {
    events.push(event)
    notify()
  })
  const send = session.send.bind(session) as (name: string, value?: object) => Promise<unknown>
  await send('Network.enable')
  await send('Network.enableDeviceBoundSessions', { enable: true })

  async function saw(fits: (event: DbscBrowserEvent) => boolean, from = 0): Promise<number> {
    const deadline = AbortSignal.timeout(20_000)
    for (;;) {
      const at = events.findIndex((event, index) => index >= from && fits(event))
      if (at >= 0) return at
      await new Promise<void>((resolve, reject) => {
        notify = resolve
        deadline.onabort = () => reject(new Error(`not seen among ${JSON.stringify(events)}`))
      })
    }
  }

  return {
    page,
    events,
    saw,
    async registered(from) {
      const at = await saw(({ creationEventDetails: creation }) => creation !== undefined, from)
      const { creationEventDetails } = events[at] as DbscBrowserEvent
      t.is(creationEventDetails?.fetchResult, 'Success')
      return creationEventDetails?.newSession?.key.id ?? ''
    },
  }
}
