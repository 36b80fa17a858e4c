#!/usr/bin/env node
import { Command } from 'commander'
import { accountsCommand } from './commands/accounts.ts'
import { auditCommand } from './commands/audit.ts'
import { clientsCommand } from './commands/clients.ts'
import { explain } from './commands/command.ts'
import { migrateCommand } from './commands/migrate.ts'
import { resourcesCommand } from './commands/resources.ts'
import { serveCommand } from './commands/serve.ts'
import { sessionsCommand } from './commands/sessions.ts'
import { tokensCommand } from './commands/tokens.ts'

const program = new Command('holdfast')
  .description('An OpenID Connect provider whose every token is held fast to a key.')
  .addCommand(serveCommand())
  .addCommand(accountsCommand())
  .addCommand(clientsCommand())
  .addCommand(resourcesCommand())
  .addCommand(sessionsCommand())
  .addCommand(tokensCommand())
  .addCommand(auditCommand())
  .addCommand(migrateCommand())
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed with a sentence on standard error, 2 wrong usage.\nEnvironment: see .env.example.',
  )

// commander ends with 1 for wrong usage, as for everything; 2 is what shells expect.
for (const command of [
  program,
  ...program.commands,
  ...program.commands.flatMap((c) => c.commands),
]) {
  command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
}

try {
  await program.parseAsync()
} catch (error) {
  const sentence = explain(error)
  console.error(sentence ? `holdfast: ${sentence}` : error)
  process.exitCode = 1
}
