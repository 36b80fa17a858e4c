/*
 * The hostile load, in a process of its own and from one address: 127.0.0.2, which is no trusted
 * proxy. It keeps its rate, whatever becomes of its requests.
 */
import type { HostileReport } from './child.ts'
import { createGuesser } from './guesser.ts'
import { type Kind, makers, takeTurns } from './kinds.ts'
import { keepPace } from './pace.ts'
import type { Target } from './release.ts'
import { createSender, failureOf } from './sender.ts'
import { createUnread } from './unread.ts'

/** Requests a second: ten thousand a minute. */
const rate = 10_000 / 60
const mostUnanswered = 1000

const { issuer } = JSON.parse(process.argv[2] ?? '') as Target
const chosen = JSON.parse(process.argv[3] ?? '') as Kind[]
const localAddress = '127.0.0.2'
const sender = createSender(issuer, { localAddress, connections: 256 })
const unread = createUnread(issuer, { localAddress })

const answers: Record<string, Record<string, number>> = {}
let unanswered = 0

function count(kind: Kind, outcome: string): void {
  answers[kind] ??= {}
  const outcomes = answers[kind]
  outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
}

/** Counts the answers to a browser's requests, each of them. */
const guesser = createGuesser(issuer, async (...request) => {
  const response = await sender.fetchFrom()(...request)
  count('login', String(response.status))
  return response
})

async function send(kind: Kind): Promise<void> {
  if (kind === 'unread') {
    unread.ask()
    count(kind, 'unread')
  } else if (kind === 'login') {
    await guesser.guess()
  } else {
    const { status } = await sender.send(makers[kind](issuer))
    count(kind, String(status))
  }
}

const next = takeTurns(chosen)

function begin(): void {
  const kind = next()
  if (unanswered >= mostUnanswered) {
    count(kind, 'not sent')
    return
  }
  unanswered += 1
  void send(kind)
    .catch((error: unknown) => count(kind, failureOf(error)))
    .finally(() => {
      unanswered -= 1
    })
}

let end = () => {}
process.on('message', (order: string) => {
  if (order === 'end') return process.disconnect()
  if (order === 'report') {
    end()
    unread.end()
    process.send?.({ answers, unanswered, closed: unread.closed() } satisfies HostileReport)
    return
  }
  end = keepPace(rate, begin)
})
process.send?.('ready')
