import type { Command } from 'commander'
import { CommandError, command, printing, withAdministration } from './command.ts'
import { counted, printable } from './table.ts'

/** `holdfast accounts import`: accounts of another system. */
export function accountsImportCommand(): Command {
  return printing(
    command(
      'import <file>',
      'Add accounts from a file with one JSON object a line, with hashes of passwords from another system. The whole file is checked first, and nothing is imported while a line has a problem. Accounts that are there already stay as they are: to resume an import, repeat it.',
      'accounts import people.jsonl --dry-run',
      'accounts import people.jsonl',
    ).option('--dry-run', 'check the file, and import nothing'),
    async (file: string, { dryRun = false }: { dryRun?: boolean }) =>
      withAdministration(async ({ accountTransfer }, progress) => {
        const result = await accountTransfer.importFile(file, {
          dryRun,
          onProgress: progress.report,
          onProblem({ line, problem }) {
            progress.rest()
            console.error(`${file}:${line}: ${printable(problem)}`)
          },
        })
        if (result.problems === 0) return { file, ...result }
        const problems = `${counted(result.problems, 'line')} of ${file} had problems`
        throw new CommandError(
          result.imported
            ? `${problems}, and ${counted(result.added, 'account')} were added. Repeat the import`
            : `${problems}, and nothing was imported`,
        )
      }),
    ({ added, existing, imported }) =>
      `${counted(added, 'account')} ${imported ? 'added' : 'would be added'}, ${existing} there already.`,
  )
}

/** `holdfast accounts export`: all accounts, as an import takes them. */
export function accountsExportCommand(): Command {
  return printing(
    command(
      'export <file>',
      'Write all accounts to a new file, one JSON object a line, as "accounts import" takes them: with passkeys, without passwords, code apps and recovery codes.',
      'accounts export people.jsonl',
      'accounts export people.jsonl --with-hashes',
    ).option('--with-hashes', 'with the hashes of passwords: who has the file can guess passwords'),
    async (file: string, { withHashes = false }: { withHashes?: boolean }) =>
      withAdministration(async ({ accountTransfer }, { report }) => {
        report('Exporting accounts', 0, 0)
        return { file, ...(await accountTransfer.exportFile(file, { withHashes })) }
      }),
    ({ file, accounts }) => `${counted(accounts, 'account')} exported to ${file}.`,
  )
}
