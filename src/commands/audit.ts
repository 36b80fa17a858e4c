import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { createAccounts } from '../accounts/accounts.ts'
import { accountOf, readTime } from '../administration/audit.ts'
import { auditEvents, countedEvents } from '../observability/event-names.ts'
import type { AuditTable, StoredAuditRow } from '../storage/audit-table.ts'
import type { CountedEvent, CountedEventTable } from '../storage/counted-event-table.ts'
import { auditExportCommand, auditVerifyCommand } from './audit-export.ts'
import { command, UsageError, withStorage } from './command.ts'
import type { Progress } from './progress.ts'
import { printable } from './table.ts'

interface AuditOptions {
  since?: string
  event?: string
  account?: string
  client?: string
  follow?: true
  counted?: true
  json?: true
}

type Filter = Omit<AuditOptions, 'since' | 'account' | 'counted'> &
  Record<'since', Date | undefined> &
  Record<'account', string | undefined>

/** Rows read by one statement. */
const batch = 500
/** Milliseconds between two looks for new rows. */
const pause = 1000

/** `holdfast audit`: what happened, oldest first. */
export function auditCommand(): Command {
  return command(
    'audit',
    'What happened, oldest first: logins, consents, grants, refusals, changes.',
    'audit --since 2026-01-31 --event login.failed',
    'audit --json --follow',
    'audit --counted --since 2026-01-31T12:00:00Z',
  )
    .addCommand(auditExportCommand())
    .addCommand(auditVerifyCommand())
    .option(
      '--since <time>',
      'from a time on: 2026-01-31, 2026-01-31T12:00:00Z, or a duration ago: 2h, 7d',
    )
    .option('--event <event>', 'one kind of event, such as login.failed')
    .option('--account <email>', 'of one account, by its email or its id')
    .option('--client <client_id>', 'of one application')
    .option('--follow', 'follow new events until Ctrl-C')
    .option(
      '--counted',
      'what unknown clients caused, and issued tokens, counted by minute, kept for 7 days',
    )
    .option('--json', 'print one JSON object per line')
    .action(async ({ since: text, ...options }: AuditOptions) => {
      // What is wrong with what was typed is said before a database is looked for.
      const since = text === undefined ? undefined : asTime(text)
      const known = options.counted ? countedEvents : auditEvents
      if (options.event !== undefined) requireEvent(options.event, known)
      if (options.counted) {
        if (options.account || options.follow) {
          throw new UsageError('--counted takes neither --account nor --follow.')
        }
        await withStorage(({ countedEvents }) => printCounts(countedEvents, { ...options, since }))
        return
      }
      const print = options.json ? JSON.stringify : asLine
      await withStorage(async ({ accounts, audit }, _config, progress) => {
        const { find } = createAccounts({ store: accounts })
        const account = await accountOf(options.account, async (email) => (await find(email)).id)
        const filter = { ...options, since, account }
        // Following has no end, and output on a terminal shows its own progress.
        const isSeen = options.follow || process.stdout.isTTY
        if (isSeen) progress.rest()
        for await (const row of rows(audit, filter, isSeen ? undefined : progress)) {
          console.log(print(row))
        }
      })
    })
}

/** A name with a typing mistake would show nothing, which reads as if nothing had happened. */
function requireEvent(event: string, known: readonly string[]): void {
  if (known.includes(event)) return
  throw new UsageError(`--event ${event} does not exist. Use one of: ${known.join(', ')}.`)
}

/** Rows of counts that are printed at most: the latest. */
const mostCounts = 100_000

async function printCounts(
  table: CountedEventTable,
  { json, ...query }: Pick<AuditOptions, 'event' | 'client' | 'json'> & { since: Date | undefined },
): Promise<void> {
  const found = await table.list({ ...query, limit: mostCounts })
  for (const row of found) console.log(json ? JSON.stringify(row) : asCountLine(row))
}

function asCountLine({ minute, event, reason, network, count, client }: CountedEvent): string {
  const facts = [`count=${count}`, `network=${network}`, ...(client ? [`client=${client}`] : [])]
  return printable([minute.toISOString(), event.padEnd(20), ...facts, reason].join('  '))
}

async function* rows(
  table: AuditTable,
  { follow, ...filter }: Filter,
  progress: Progress | undefined,
): AsyncGenerator<StoredAuditRow> {
  const total = progress && (await table.count(filter))
  const stopped = new AbortController()
  if (follow) {
    process.once('SIGINT', () => stopped.abort())
    process.once('SIGTERM', () => stopped.abort())
  }
  // The reader has seen enough, as `head` does.
  process.stdout.once('close', () => stopped.abort())
  let read = 0
  for (let after = 0; !stopped.signal.aborted; ) {
    progress?.report(`${read} of ${total} events`, read, total ?? 0)
    const found = await table.list({ ...filter, after, limit: batch })
    for (const row of found) {
      if (stopped.signal.aborted) return
      yield row
    }
    read += found.length
    after = found.at(-1)?.id ?? after
    if (found.length === batch) continue
    if (!follow) return
    await setTimeout(pause, undefined, { signal: stopped.signal }).catch(() => {})
  }
}

const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** A time, or a duration before now such as 2h. */
export function asTime(text: string, now = Date.now): Date {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? []
  if (unit !== undefined) {
    return new Date(now() - Number(count) * unitMs[unit as keyof typeof unitMs])
  }
  const time = readTime(text)
  if (!time) {
    throw new UsageError(`--since ${text} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z.`)
  }
  return time
}

function asLine({ at, event, actor, account, client, address, details }: StoredAuditRow): string {
  const named = { actor, account, client, address }
  const facts = Object.entries(named).flatMap(([name, value]) =>
    value === null ? [] : [`${name}=${value}`],
  )
  return printable(
    [at.toISOString(), event.padEnd(20), ...facts, JSON.stringify(details)].join('  '),
  )
}
