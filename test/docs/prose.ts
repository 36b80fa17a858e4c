// Part of `npm run lint`: keeps word orders and words out that make readers stumble. It reads pages,
// settings, comments and texts of sources, and titles of tests; code is left out. A line with "prose: allow" is let pass.
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { pages, readText, root } from '../support/markdown.ts'

/** What is looked for, and what to write instead. */
const patterns: readonly [RegExp, string][] = [
  [/\bwhoever\b/i, 'a client that …, users who …, anyone who …'],
  [/\b(some|any|every)body\b/i, 'someone, anyone, everyone; better: name the actor'],
  [/(?<!there )\b(is|are|was) none\b/i, 'name the actor and the result: "the server rejects …"'],
  [/\b(is|are|was|were|be|being) told\b(?! (apart|otherwise))/i, 'receives, learns, shows'],
  [/\bof before\b/i, 'existing, from before …'],
  [/\bgo(es)? on\b/i, 'continue'],
  [/\bmay not\b/i, 'must not, cannot, is not allowed'],
  [/\bthere are not\b/i, 'incorrect, unknown'],
  [/\bis nothing to\b/i, 'the server ignores …'],
  [/\bsays? no\b/i, 'deny, decline'],
  [/\bin its time\b/i, 'on schedule, once …'],
  [/\bare alike\b/i, 'match'],
  [/\bcompanions?\b/i, 'bound cookie'],
  [/\bhop\b/i, 'interstitial, page in between'],
]

const comments = (text: string) =>
  text.replaceAll(/^(?!\s*(?:\/\/|\/\*|\*)).*$/gm, (line) => /\s\/\/ (.*)$/.exec(line)?.[1] ?? '')

/** Everything but what matches is blank: lines keep their numbers. */
function only(text: string, pattern: RegExp): string {
  let kept = ''
  let at = 0
  const blank = (part: string) => part.replaceAll(/[^\n]/g, '')
  for (const match of text.matchAll(pattern)) {
    kept += blank(text.slice(at, match.index)) + match[0]
    at = match.index + match[0].length
  }
  return kept + blank(text.slice(at))
}

/** Texts of one line that have words; what a template inserts is no word. */
const strings = (text: string) =>
  only(
    text.replaceAll(/^\s*(?:\/\/|\/\*|\*).*$/gm, '').replaceAll(/\$\{[^{}\n]*\}/g, ''),
    /(['"`])(?:(?!\1)[^\\\n]|\\.)* (?:(?!\1)[^\\\n]|\\.)*\1/g,
  )

const titles = (text: string) =>
  only(text, /\b(?:test|run|\w+Test|with\w+)(?:\.\w+)?\(\s*(['"`])(?:(?!\1).)+\1(?=,)/g)

const prose = (text: string) =>
  text
    .replaceAll(/^```[\s\S]*?^```$/gm, (block) => block.replaceAll(/[^\n]/g, ''))
    .replaceAll(/`[^`\n]*`/g, '')

const filesOf = (folder: string) =>
  readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !/node_modules|^dist\//.test(name))
    .map((name) => path.join(folder, name))

const sources = ['src', 'packages/verify', 'packages/token-binding-tls', 'packages/gate'].flatMap(
  filesOf,
)

let found = 0
function check(file: string, text: string): void {
  for (const [index, line] of text.split('\n').entries()) {
    if (line.includes('prose: allow')) continue
    for (const [pattern, instead] of patterns) {
      const [words] = pattern.exec(line) ?? []
      if (words === undefined) continue
      found += 1
      console.error(`${file}:${index + 1}: "${words}". Write: ${instead}`)
    }
  }
}

for (const page of [...pages(), 'CHANGELOG.md', 'CODE_OF_CONDUCT.md', '.env.example']) {
  check(page, prose(readText(page)))
}
for (const file of sources) {
  check(file, comments(readText(file)))
  check(file, strings(readText(file)))
}
for (const file of filesOf('test')) check(file, titles(readText(file)))
if (found > 0) process.exitCode = 1
