import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'

const root = path.resolve(import.meta.dirname, '..')
const picture = await readFile(path.join(root, 'docs/architecture.md'), 'utf8')

/** The floors of the house, top to bottom, as docs/architecture.md draws them. */
const floors = [...(picture.split('```floors\n')[1]?.split('```')[0] ?? '').matchAll(/^.+$/gm)].map(
  ([line]) => line.split('#')[0]?.trim().split(/\s+/) ?? [],
)

interface Import {
  readonly from: string
  readonly to: string
}

async function sources(folder: string): Promise<string[]> {
  const names = await readdir(path.join(root, folder), { recursive: true })
  return names.filter((name) => name.endsWith('.ts')).map((name) => path.join(folder, name))
}

async function importsOf(folder: string): Promise<Import[]> {
  const found = (await sources(folder)).map(async (from) => {
    const text = await readFile(path.join(root, from), 'utf8')
    const specifiers = text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)
    return [...specifiers].map(([, specifier = '']) => ({
      from,
      to: path.join(path.dirname(from), specifier),
    }))
  })
  return (await Promise.all(found)).flat()
}

/** `src/keys/key-ring.ts` is in `keys`, `src/cli.ts` is `cli.ts`. */
const placeOf = (file: string) => file.split('/')[1] ?? ''

const floorOf = (place: string) => floors.findIndex((floor) => floor.includes(place))

const all = await importsOf('src')

test('the picture has every folder of src, and no other', async (t) => {
  const folders = new Set((await sources('src')).map(placeOf))
  t.deepEqual(floors.flat().sort(), [...folders].sort())
})

test('a file imports from its own folder or from a floor below', (t) => {
  const upward = all.filter(({ from, to }) => {
    const [here, there] = [placeOf(from), placeOf(to)]
    return here !== there && floorOf(there) <= floorOf(here)
  })
  t.true(all.length > 500)
  t.deepEqual(upward, [])
})

test('no import leaves src: packages are reached through their exports', (t) => {
  t.deepEqual(
    all.filter(({ to }) => !to.startsWith('src/')),
    [],
  )
})

test('only the engine imports private modules of oidc-provider', async (t) => {
  const files = await sources('src')
  const texts = await Promise.all(files.map((file) => readFile(path.join(root, file), 'utf8')))
  const private_ = files.filter((_, index) => /'oidc-provider\/lib\//.test(texts[index] ?? ''))
  t.deepEqual(
    private_.filter((file) => placeOf(file) !== 'engine'),
    [],
  )
})

test('test/support imports no example', async (t) => {
  const support = await importsOf('test/support')
  t.deepEqual(
    support.filter(({ to }) => to.startsWith('examples/')),
    [],
  )
})
