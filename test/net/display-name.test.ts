import test from 'ava'
import { isDisplayName } from '../../src/net/display-name.ts'

for (const name of [
  'Harbour Orders',
  'Ärzte & Söhne',
  '日本',
  'नमस्ते',
  'လျှော့',
  '✓',
  'a'.repeat(100),
]) {
  test(`accepts ${name}`, (t) => t.true(isDisplayName(name, 100)))
}

const refused: [string, string][] = [
  ['nothing', ''],
  ['spaces', '  '],
  ['no-break spaces', '\u00a0\u2003'],
  ['a second line', 'Shop\nof Ada'],
  ['a line separator', 'Shop\u2028'],
  ['text that is turned round', 'Shop\u202etxt'],
  ['an isolate', 'Shop\u2066'],
  ['a zero-width space', 'Sh\u200bop'],
  ['a zero-width joiner alone', '\u200d'],
  ['a soft hyphen', 'Sh\u00adop'],
  ['a Hangul filler', '\u3164'],
  ['a variation selector', 'Shop\ufe0f'],
  ['a tag', 'Shop\u{e0041}'],
  ['an empty braille pattern', '\u2800'],
  ['combining marks alone', '\u0301\u0301'],
  ['a stack of marks', `a${'\u0301'.repeat(7)}`],
  ['a private character', '\ue000'],
  ['half of a surrogate pair', 'Shop\ud800'],
  ['too many characters', 'a'.repeat(101)],
]

test('no name is invisible in part or as a whole, or turns the text around it', (t) => {
  for (const [what, name] of refused) t.false(isDisplayName(name, 100), what)
})
