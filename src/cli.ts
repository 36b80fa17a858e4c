#!/usr/bin/env node
import type { Command } from 'commander'
import { accountsCommand } from './commands/accounts.ts'
import { clientsCommand } from './commands/clients.ts'
import { command, explain, UsageError } from './commands/command.ts'
import { migrateCommand } from './commands/migrate.ts'
import { resourcesCommand } from './commands/resources.ts'
import { serveCommand } from './commands/serve.ts'

const program = command(
  'holdfast',
  'An OpenID Connect provider whose every token is held fast to a key.',
  'serve',
  'accounts add ada@example.com',
  'clients add web-shop --redirect-uri https://shop.example.com/callback',
)
  .addCommand(serveCommand())
  .addCommand(accountsCommand())
  .addCommand(clientsCommand())
  .addCommand(resourcesCommand())
  .addCommand(migrateCommand())
  .addHelpText(
    'after',
    `
Exit codes:
  0  done
  1  failed, with a sentence on standard error
  2  wrong usage

It is configured by environment variables or a file .env; .env.example lists them.`,
  )

// commander ends with 1 for wrong usage, as for everything; 2 is what shells expect.
const all = (each: Command): Command[] => [each, ...each.commands.flatMap(all)]
for (const each of all(program)) {
  each.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  each.configureOutput({
    outputError: (text, write) => write(text.replace(/^error: (.)/, asSentence)),
  })
  each.showHelpAfterError(`Try: ${pathOf(each)} --help`)
}

function asSentence(_: string, first: string): string {
  return `holdfast: ${first.toUpperCase()}`
}

function pathOf(each: Command): string {
  return each.parent ? `${pathOf(each.parent)} ${each.name()}` : each.name()
}

try {
  await program.parseAsync()
} catch (error) {
  const sentence = explain(error)
  console.error(sentence ? `holdfast: ${sentence}` : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
