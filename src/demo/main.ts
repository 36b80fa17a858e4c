import { styleText } from 'node:util'
import { Command } from 'commander'
import { asJson, asText, failedRows } from './report.ts'
import { setUp } from './set-up.ts'
import { playStory } from './story.ts'

const command = new Command('demo')
  .description('Plays the story of an owner and a thief against a real server, and judges it.')
  .option('--json', 'print the rows as JSON')
  .addHelpText('after', '\nExit codes: 0 every row is as it must be, 1 one is not.')
  .parse()
const { json } = command.opts<{ json?: true }>()

const terminal = process.stderr.isTTY && !json
const status = (text: string) => {
  if (terminal) process.stderr.write(`\r\x1b[K${styleText('dim', text)}`)
}

await using stage = await setUp((part) => status(`Starting: ${part} …`))
const rows = await playStory(stage, (row) => status(`${row.who}: ${row.case}`))
status('')
console.log(json ? asJson(rows) : asText(rows))
process.exitCode = failedRows(rows).length === 0 ? 0 : 1
