import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { npmInstall } from './verify/package.ts'

/** What is kept for the next run of the tests on other versions of Node. */
export const nodesCache = resolve('node_modules/.cache/holdfast-nodes')

/** The path of a Node of this version: npm has each as the package `node`. */
export async function installNode(version: string): Promise<string> {
  const folder = join(nodesCache, version)
  const binary = join(folder, 'node_modules/node/bin/node')
  if (!existsSync(binary)) {
    await mkdir(folder, { recursive: true })
    const manifest = { private: true, allowScripts: { node: true } }
    await writeFile(join(folder, 'package.json'), JSON.stringify(manifest))
    await npmInstall([`node@${version}`], folder)
  }
  return binary
}
