import { Command, Option } from 'commander'
import { CommandError, explain } from '../../src/commands/command.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { chromiumPath } from '../../test/support/chromium-program.ts'
import { setUpDbsc } from './dbsc-fixtures.ts'
import { residualWindow, runDbscScenario } from './dbsc-scenario.ts'
import { runDpopScenario } from './dpop-scenario.ts'
import { runGateScenario, whatStillWorks } from './gate-scenario.ts'
import { runMcpScenario } from './mcp-scenario.ts'
import { runMtlsScenario } from './mtls-scenario.ts'
import { runPeopleScenario } from './people-scenario.ts'
import { asJson, asText, failedRows } from './report.ts'
import { setUpDpop, setUpMtls } from './set-up.ts'
import { setUpGate } from './set-up-gate.ts'
import { setUpMcp } from './set-up-mcp.ts'
import { setUpPeople } from './set-up-people.ts'
import { setUpTokenBinding } from './set-up-token-binding.ts'
import { createRunner } from './steps.ts'
import { runTokenBindingScenario } from './token-binding-scenario.ts'

const stories = ['mcp', 'people', 'gate'] as const
const command = new Command('demo')
  .description(
    'Runs the requests of an owner and of a thief against a real server, and checks each response.',
  )
  .addOption(
    new Option(
      '--binding <method>',
      'what the tokens, or with dbsc the session in the browser, are bound to',
    )
      .choices(['dpop', 'mtls', 'token-binding', 'dbsc'])
      .default('dpop'),
  )
  .addOption(
    new Option(
      '--story <name>',
      'another story: an agent that finds everything by itself, people with passkeys, or a gate in front of applications',
    ).choices(stories),
  )
  .option('--json', 'print the rows as JSON')
  .addHelpText('after', '\nExit codes: 0 every row is as it must be, 1 one is not.')
  .parse()
const { json, binding, story } = command.opts<{
  json?: true
  story?: (typeof stories)[number]
  binding: 'dpop' | 'mtls' | 'token-binding' | 'dbsc'
}>()

drawProgressOn(json ? undefined : process.stderr)
const progress = showProgress()
// The number of rows is known when the scenario has run.
const report = (part: string) => progress.report(`Starting: ${part}`, 0, 0)
/** What the rows do not say. */
let closing = ''
const runner = createRunner((row) => progress.report(`${row.who}: ${row.case}`, 0, 0))
try {
  await play()
} catch (error) {
  progress.rest()
  const sentence = explain(error)
  if (sentence === undefined) throw error
  console.error(`demo: ${sentence}`)
  process.exit(1)
}
progress.rest()
const { rows } = runner
console.log(json ? asJson(rows) : asText(rows))
if (!json && closing !== '') console.log(closing)
process.exitCode = failedRows(rows).length === 0 ? 0 : 1

async function play(): Promise<void> {
  if (story === 'mcp') {
    await using fixtures = await setUpMcp(report)
    await runMcpScenario(fixtures, runner)
  } else if (story === 'people') {
    requireChromium()
    await using fixtures = await setUpPeople(report)
    await runPeopleScenario(fixtures, runner)
  } else if (story === 'gate') {
    requireChromium()
    await using fixtures = await setUpGate(report)
    await runGateScenario(fixtures, runner)
    closing = whatStillWorks(fixtures.windowS)
  } else if (binding === 'mtls') {
    await using fixtures = await setUpMtls(report)
    await runMtlsScenario(fixtures, runner)
  } else if (binding === 'token-binding') {
    await using fixtures = await setUpTokenBinding(report)
    await runTokenBindingScenario(fixtures, runner)
  } else if (binding === 'dbsc') {
    requireChromium()
    await using fixtures = await setUpDbsc(report)
    await runDbscScenario(fixtures, runner)
    closing = residualWindow(fixtures.window)
  } else {
    await using fixtures = await setUpDpop(report)
    await runDpopScenario(fixtures, runner)
  }
}

function requireChromium(): void {
  if (chromiumPath !== undefined) return
  throw new CommandError(
    'this scenario needs Chromium, which was not found: apt-get install chromium',
  )
}
