import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

/** Every page that people write: README files and docs. Generated references are left out. */
export function pages(): string[] {
  const found = ['docs', 'packages', 'examples'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
      path.join(folder, name),
    ),
  )
  return ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...found].filter(
    (name) => name.endsWith('.md') && !/node_modules|^docs\/reference\//.test(name),
  )
}

export const readText = (file: string) => readFileSync(path.join(root, file), 'utf8')

export interface Block {
  readonly language: string
  /** The comment above it: `excerpt: examples/api/main.js`. */
  readonly directive: string | undefined
  readonly text: string
}

/** The fenced blocks of a page. */
export function blocksOf(page: string): Block[] {
  const fenced = /(?:^<!-- (.+?) -->\n)?^```(\S*)\n([\s\S]*?)^```$/gm
  return [...page.matchAll(fenced)].map(([, directive, language = '', text = '']) => ({
    directive,
    language,
    text,
  }))
}
