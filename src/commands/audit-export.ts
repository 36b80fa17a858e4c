import type { Command } from 'commander'
import { readTime } from '../administration/audit.ts'
import {
  exportAudit,
  isServerKey,
  signatureFileOf,
  verifyAudit,
} from '../administration/audit-export.ts'
import { createLog } from '../observability/log.ts'
import { createObservability } from '../observability/observability.ts'
import { openKeys } from '../open-keys.ts'
import {
  actorOfCommand,
  CommandError,
  command,
  printing,
  UsageError,
  withStorage,
} from './command.ts'

/** `holdfast audit export`: a signed file of events. */
export function auditExportCommand(): Command {
  return printing(
    command(
      'export <file>',
      'Write events to a new file, one JSON object a line, and a signature of the server to FILE.jws.',
      'audit export audit-2026-01.jsonl --from 2026-01-01 --to 2026-02-01',
    )
      .requiredOption('--from <time>', 'from a time on: 2026-01-31 or 2026-01-31T12:00:00Z')
      .requiredOption('--to <time>', 'until before a time'),
    async (file: string, options: { from: string; to: string }) => {
      const [from, to] = [asTime('--from', options.from), asTime('--to', options.to)]
      if (from >= to) throw new UsageError('--from must be earlier than --to.')
      return withStorage(async (storage, config) => {
        await using observability = createObservability({ log: createLog('silent'), storage })
        const { events } = observability
        const ring = await openKeys({
          ...{ config, storage, events },
          actor: actorOfCommand(),
          makes: false,
          tolerate: 'some',
        })
        const [key] = ring.view().ES256
        if (!key)
          throw new CommandError('There is no key to sign with. "holdfast serve" makes one.')
        const manifest = await exportAudit(
          { from, to, file },
          { audit: storage.audit, key, now: ring.now },
        )
        return { file, signature: signatureFileOf(file), kid: key.kid, ...manifest }
      })
    },
    ({ events, file, signature, kid }) =>
      `${events} events are in ${file}. Keep ${signature} with it. Key: ${kid}`,
  )
}

/** `holdfast audit verify`: whether such a file is as it was exported. */
export function auditVerifyCommand(): Command {
  return printing(
    command(
      'verify <file>',
      'Check that an exported file is unchanged, and that a key of this server signed it.',
      'audit verify audit-2026-01.jsonl',
    ).option('--kid <kid>', 'the key that must have signed it, instead of one of this server'),
    (file: string, { kid }: { kid?: string }) =>
      kid === undefined
        ? withStorage((storage) => verifyAudit(file, (signer) => isServerKey(signer, storage)))
        : verifyAudit(file, async (signer) => signer === kid),
    ({ from, to, events, kid }) =>
      `Unchanged: ${events} events from ${from} until before ${to}, signed by ${kid}.`,
  )
}

function asTime(option: string, text: string): Date {
  const time = readTime(text)
  if (time) return time
  throw new UsageError(`${option} ${text} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z.`)
}
