import type { Command } from 'commander'
import { normalizeEmail } from '../accounts/email.ts'
import { readConfig } from '../config/env.ts'
import { CommandError, command, printing } from './command.ts'

/** `holdfast mail`: whether the SMTP server takes what this server sends. */
export function mailCommand(): Command {
  return command('mail', 'Mail to users.', 'mail test ada@example.com').addCommand(
    printing(
      command(
        'test <address>',
        'Send a test mail now, without the queue, and say what is wrong.',
        'mail test ada@example.com',
      ),
      sendTestMail,
      ({ address, server }) => `${server} accepted a mail for ${address}.`,
    ),
  )
}

async function sendTestMail(typed: string): Promise<{ address: string; server: string }> {
  const { mail, issuer } = readConfig()
  if (!mail) {
    throw new CommandError('No mail is sent: set HOLDFAST_SMTP_URL and HOLDFAST_MAIL_FROM.')
  }
  const address = normalizeEmail(typed)
  // Loaded here: most commands send no mail.
  const [{ createLetters }, { createSmtp, describeSmtpProblem }] = await Promise.all([
    import('../mail/letters.ts'),
    import('../mail/smtp.ts'),
  ])
  const letter = createLetters({ issuer }).write({ kind: 'test', to: address })
  const problem = await createSmtp(mail).send(letter)
  if (problem) throw new CommandError(describeSmtpProblem(problem))
  return { address, server: `${mail.host}:${mail.port}` }
}
