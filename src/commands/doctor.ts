import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { readConfig } from '../config/env.ts'
import { isPath } from '../config/issuer-path.ts'
import { createDoctorCodes } from '../doctor/codes.ts'
import { endExamination, examine } from '../doctor/examination.ts'
import { type Finding, finding } from '../doctor/finding.ts'
import { examineGate } from '../doctor/gate.ts'
import { CommandError, command, printing, UsageError, withStorage } from './command.ts'
import { showProgress } from './progress.ts'
import { printable } from './table.ts'

interface DoctorOptions {
  url?: string
  code?: string
  gate?: string
  forwardAuth?: string
  upstream?: string
  json?: boolean
}

/** `holdfast doctor`: whether proofs get through a deployment, and claims do not; the same of a gate. */
export function doctorCommand(): Command {
  const doctor = command(
    'doctor',
    'Send DPoP proofs, certificates, Token Bindings and forged headers through a deployment, and say what is wrong.',
    'doctor',
    'doctor code',
    'doctor --url https://id.example.com --code CODE',
    'doctor --gate https://app.example.com/private',
  )
    .option('--url <issuer>', 'the public address, as clients write it; HOLDFAST_ISSUER by default')
    .option('--code <code>', 'from "holdfast doctor code", on a machine without the database')
    .option('--gate <url>', 'examine a gate instead, by an https URL that is not public')
    .option('--forward-auth <url>', 'with --gate: where proxies ask it')
    .option('--upstream <url>', 'with --gate: the application behind it')
    .option('--json', 'print JSON')
    .action(run)
  return doctor.addCommand(
    printing(
      command('code', 'Open the diagnostic endpoint: print a code for one examination.'),
      async () => ({
        code: await withStorage(({ artifacts }) => createDoctorCodes(artifacts).issue()),
      }),
      ({ code }) => `${code}\nGood for one examination in the next ten minutes.`,
    ),
  )
}

async function run(options: DoctorOptions): Promise<void> {
  const { json } = options
  const findings = options.gate === undefined ? await ofServer(options) : await ofGate(options)
  console.log(json ? JSON.stringify(findings, null, 2) : asText(findings))
  const wrong = findings.filter(({ outcome }) => outcome === 'wrong').length
  if (wrong > 0) {
    const are = wrong === 1 ? 'is' : 'are'
    throw new CommandError(`${wrong} of ${findings.length} things ${are} wrong.`)
  }
}

async function ofGate({ gate: url = '', ...options }: DoctorOptions): Promise<Finding[]> {
  const { forwardAuth, upstream } = options
  if (options.url ?? options.code) throw new UsageError('--gate needs neither --url nor --code.')
  if (URL.parse(url)?.protocol !== 'https:') {
    throw new UsageError('--gate must be an https URL, such as https://app.example.com/private')
  }
  for (const [name, address] of Object.entries({
    '--forward-auth': forwardAuth,
    '--upstream': upstream,
  })) {
    if (address !== undefined && !/^https?:$/.test(URL.parse(address)?.protocol ?? '')) {
      throw new UsageError(`${name} must be an http or https URL (it is ${address})`)
    }
  }
  using progress = showProgress()
  return await examineGate({ url, forwardAuth, upstream }, { onStep: progress.report })
}

async function ofServer({ url: given, code, ...options }: DoctorOptions): Promise<Finding[]> {
  if (options.forwardAuth ?? options.upstream) {
    throw new UsageError('--forward-auth and --upstream are for an examination with --gate.')
  }
  if (code && !given) throw new UsageError('--code is for another machine: give --url as well.')
  const url = given ?? readConfig().issuer
  if (!isIssuer(url)) {
    throw new UsageError(
      given
        ? '--url must be the https issuer, such as https://id.example.com'
        : `HOLDFAST_ISSUER must be https for an examination (it is ${url}). Give --url.`,
    )
  }
  return code ? await examineFromOutside({ url, code }) : await examineHere(url)
}

function isIssuer(url: string): boolean {
  const { protocol, origin = '' } = URL.parse(url) ?? {}
  const path = url.slice(origin.length)
  return protocol === 'https:' && url.startsWith(origin) && (path === '' || isPath(path))
}

async function examineHere(url: string): Promise<Finding[]> {
  return withStorage(async ({ artifacts }, config, { report: onStep }) => {
    const codes = createDoctorCodes(artifacts)
    const code = await codes.issue()
    try {
      return [...(await examine({ url, code }, { onStep })), ...(await examineMail(config))]
    } finally {
      await codes.end(code)
    }
  })
}

/** Connects to the SMTP server, where one is configured, and sends nothing. */
async function examineMail({ mail }: Config): Promise<Finding[]> {
  if (!mail) return []
  // Loaded here: most commands send no mail.
  const { createSmtp, describeSmtpProblem } = await import('../mail/smtp.ts')
  const problem = await createSmtp(mail).check()
  return [finding('the SMTP server can be used', problem && describeSmtpProblem(problem))]
}

async function examineFromOutside(target: { url: string; code: string }): Promise<Finding[]> {
  using progress = showProgress()
  try {
    return await examine(target, { onStep: progress.report })
  } finally {
    await endExamination(target)
  }
}

const marks = {
  well: styleText('green', '✓'),
  wrong: styleText('red', '✗'),
  off: styleText('dim', '–'),
  not_examined: styleText('yellow', '?'),
}

function asText(findings: readonly Finding[]): string {
  return findings
    .map(({ check, outcome, advice }) =>
      [`${marks[outcome]} ${check}`, ...(advice ? [`    ${printable(advice)}`] : [])].join('\n'),
    )
    .join('\n')
}
