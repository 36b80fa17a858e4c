import { Command, Option } from 'commander'
import { CommandError, explain } from '../../src/commands/command.ts'
import { drawProgressOn, showProgress } from '../../src/commands/progress.ts'
import { CHROMIUM } from '../../test/support/chromium-program.ts'
import { setUpDbsc } from './dbsc-stage.ts'
import { playDbscStory, residualWindow } from './dbsc-story.ts'
import { playDpopStory } from './dpop-story.ts'
import { playMtlsStory } from './mtls-story.ts'
import { asJson, asText, failedRows } from './report.ts'
import { createPlayer } from './scenes.ts'
import { setUpDpop, setUpMtls } from './set-up.ts'
import { setUpTokenBinding } from './set-up-token-binding.ts'
import { playTokenBindingStory } from './token-binding-story.ts'

const command = new Command('demo')
  .description('Plays the story of an owner and a thief against a real server, and judges it.')
  .addOption(
    new Option(
      '--binding <method>',
      'what the tokens, or with dbsc the session in the browser, are bound to',
    )
      .choices(['dpop', 'mtls', 'token-binding', 'dbsc'])
      .default('dpop'),
  )
  .option('--json', 'print the rows as JSON')
  .addHelpText('after', '\nExit codes: 0 every row is as it must be, 1 one is not.')
  .parse()
const { json, binding } = command.opts<{
  json?: true
  binding: 'dpop' | 'mtls' | 'token-binding' | 'dbsc'
}>()

drawProgressOn(json ? undefined : process.stderr)
const progress = showProgress()
// How many rows a story has is known when it is told.
const tell = (part: string) => progress.report(`Starting: ${part}`, 0, 0)
const player = createPlayer((row) => progress.report(`${row.who}: ${row.case}`, 0, 0))
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
const { rows } = player
console.log(json ? asJson(rows) : asText(rows))
if (binding === 'dbsc' && !json) console.log(residualWindow)
process.exitCode = failedRows(rows).length === 0 ? 0 : 1

async function play(): Promise<void> {
  if (binding === 'mtls') {
    await using stage = await setUpMtls(tell)
    await playMtlsStory(stage, player)
  } else if (binding === 'token-binding') {
    await using stage = await setUpTokenBinding(tell)
    await playTokenBindingStory(stage, player)
  } else if (binding === 'dbsc') {
    if (CHROMIUM === undefined) {
      throw new CommandError(
        'this story needs Chromium, and none was found: apt-get install chromium',
      )
    }
    await using stage = await setUpDbsc(tell)
    await playDbscStory(stage, player)
  } else {
    await using stage = await setUpDpop(tell)
    await playDpopStory(stage, player)
  }
}
